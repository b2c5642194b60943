"""Parameters of a config.pbtxt, as NVIDIA's C++ backend reads them.

Facts from triton-inference-server/backend, release 24.10: ParseIntValue, ParseBoolValue of backend_common.cc.
"""

import re
from collections.abc import Collection

# std::stoi: blanks, a sign, digits; whatever follows is left.
INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
INTEGERS = range(-(2**31), 2**31)
BOOLEANS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
SIZE = re.compile(r"-1|[1-9][0-9]{0,17}")
MAX_SHAPE = "max_shape"


class SettingsError(ValueError):
    """A config.pbtxt that the graph or this backend cannot serve; the message says what and how to mend."""


def given(config: dict, name: str) -> bool:
    """Whether config.pbtxt has the parameter `name`."""
    return name in config.get("parameters", {})


def parameter(config: dict, name: str, default: str = "") -> str:
    """Its text as it is; `default` if it is not given."""
    return config.get("parameters", {}).get(name, {}).get("string_value", default)


def integer(config: dict, name: str, choices: Collection[int] | None = None) -> int:
    """0 if it is not given. Raises `SettingsError`."""
    if not given(config, name):
        return 0
    text = parameter(config, name)
    found = INTEGER.match(text)
    if not found:
        raise SettingsError(f"parameter {name} is '{text}', which is not an integer")
    number = int(found[1]) if len(found[1]) < 12 else INTEGERS.stop
    if number not in INTEGERS:
        raise SettingsError(f"parameter {name} is '{text}', which is out of range")
    if choices is not None and number not in choices:
        raise SettingsError(f"parameter {name} is {number}; choose one of {', '.join(map(str, choices))}")
    return number


def boolean(config: dict, name: str, default: bool) -> bool:
    """From one of `BOOLEANS`, in capitals or not; `default` if it is not given. Raises `SettingsError`."""
    if not given(config, name):
        return default
    text = parameter(config, name)
    if text.lower() not in BOOLEANS:
        raise SettingsError(f"parameter {name} is '{text}'; choose true or false")
    return BOOLEANS[text.lower()]


def shape_of(entry: dict) -> list[int]:
    """Of an input or output as the graph has it: without the batch."""
    return [int(dim) for dim in (entry["reshape"].get("shape", []) if "reshape" in entry else entry["dims"])]


def max_shape(config: dict) -> dict[str, list[int]]:
    """The largest sizes that each input may have, without the batch; -1: any.

    From the parameter max_shape, `INPUT=d1,d2;INPUT2=d1`. Raises `SettingsError`.
    """
    if not given(config, MAX_SHAPE):
        return {}
    shapes = {entry["name"]: shape_of(entry) for entry in config["input"]}
    bounds = {}
    for part in parameter(config, MAX_SHAPE).split(";"):
        name, _, listed = (text.strip() for text in part.rpartition("="))
        sizes = [size.strip() for size in listed.split(",")]
        if name not in shapes or name in bounds or not all(map(SIZE.fullmatch, sizes)):
            raise SettingsError(
                f"parameter {MAX_SHAPE}: '{part}' does not give the largest sizes of one input, such as "
                f"{_example(shapes)}; -1 sets no bound"
            )
        bounds[name] = list(map(int, sizes))
        if len(bounds[name]) != len(shapes[name]):
            raise SettingsError(
                f"parameter {MAX_SHAPE}: input '{name}' has the dims {shapes[name]}, not {len(sizes)} of them"
            )
        for size, bound in zip(shapes[name], bounds[name], strict=True):
            if -1 not in (size, bound) and size > bound:
                raise SettingsError(
                    f"parameter {MAX_SHAPE}: input '{name}' has the dims {shapes[name]}, so "
                    f"a bound of {bound} would refuse every request"
                )
    return bounds


def _example(shapes: dict[str, list[int]]) -> str:
    name, shape = next(iter(shapes.items()), ("INPUT", [-1]))
    return f"{name}={','.join(map(str, shape))}"
