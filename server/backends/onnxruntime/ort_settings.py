"""Parameters of a config.pbtxt and what they set of a session, as NVIDIA's C++ backend reads them.

Facts from triton-inference-server/backend, release 24.10: ParseIntValue, ParseBoolValue of backend_common.cc.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# std::stoi: blanks, a sign, digits; whatever follows is left.
INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
INTEGERS = range(-(2**31), 2**31)
BOOLEANS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
SIZE = re.compile(r"-1|[1-9][0-9]{0,17}")
MAX_SHAPE = "max_shape"

# optimization.graph.level to GraphOptimizationLevel of onnxruntime_c_api.h: 0 is the default, ORT_ENABLE_ALL;
# 1 asks for less, the extended ones; -1 for the basic ones, 2 for none.
GRAPH_LEVELS = {0: 99, -1: 1, 1: 2, 2: 0}
SEQUENTIAL, PARALLEL = 0, 1  # ExecutionMode

# optimization.priority to nice(2): Triton's own default for threads that compute (SCHEDULER_DEFAULT_NICE) is
# 5, so that those which take requests in and bring answers out are not kept waiting by them.
NICE_LEVELS = {"PRIORITY_MAX": 0, "PRIORITY_DEFAULT": 5, "PRIORITY_MIN": 19}

# The parameter that cuts batches, by the provider that computes them (docs/reference/backend.md).
BATCH_SIZES = {"CPUExecutionProvider": "cpu_batch_size", "CUDAExecutionProvider": "cuda_batch_size"}

ARENA_SHRINKAGE = "memory.enable_memory_arena_shrinkage"


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


@dataclass(frozen=True)
class SessionSettings:
    """Of a session. graph_level, execution_mode: numbers of the C API; threads: 0 is one per core."""

    graph_level: int
    execution_mode: int
    intra_op_threads: int
    inter_op_threads: int
    mem_arena: bool
    mem_pattern: bool


def session_settings(config: dict) -> SessionSettings:
    """Raises `SettingsError`."""
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    return SessionSettings(
        GRAPH_LEVELS.get(level, GRAPH_LEVELS[0]),
        PARALLEL if integer(config, "execution_mode", choices=(0, 1)) else SEQUENTIAL,
        max(0, integer(config, "intra_op_thread_count")),
        max(0, integer(config, "inter_op_thread_count")),
        boolean(config, "enable_mem_arena", default=True),
        boolean(config, "enable_mem_pattern", default=True),
    )


def items_at_once(config: dict, provider: str) -> int:
    """Items that a session of this provider computes at once; 0: as many as come. NVIDIA's ignores it.

    Raises `SettingsError` for a negative one.
    """
    if not (name := BATCH_SIZES.get(provider)):
        return 0
    size = integer(config, name)
    if size < 0:
        raise SettingsError(f"parameter {name} is {size}; give 1 or more, or leave it out")
    return size


def nice_level(config: dict) -> int:
    """What `optimization.priority` adds to the niceness of the process: 0, 5 or 19."""
    return NICE_LEVELS[config.get("optimization", {}).get("priority", "PRIORITY_DEFAULT")]


def arena_shrinkage(config: dict, providers: Sequence[str] = ("CPUExecutionProvider",)) -> str:
    """Of which arenas the memory goes back to the system after a run, as "cpu:0"; "" for none.

    The parameter says it; without it this is on where an input's size is open, as one large request would
    keep its memory for good. Raises `SettingsError` for what would make every run fail.
    """
    arena = boolean(config, "enable_mem_arena", default=True)
    if not given(config, ARENA_SHRINKAGE):
        open_sizes = any(-1 in shape_of(entry) for entry in config["input"])
        return "cpu:0" if open_sizes and arena else ""
    text = parameter(config, ARENA_SHRINKAGE)
    known = r"cpu:0|gpu:\d+" if "CUDAExecutionProvider" in providers else "cpu:0"
    if not all(
        re.fullmatch(known, name) and (arena or name != "cpu:0") for name in filter(None, text.split(";"))
    ):
        raise SettingsError(
            f"parameter {ARENA_SHRINKAGE} is '{text}', but memory of this model is in "
            f"{', '.join(['cpu:0'] * arena) or 'no arena, as enable_mem_arena says'}"
        )
    return text
