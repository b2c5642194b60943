"""The gateway's options, of its own command and, with a prefix, of the launcher's."""

import argparse
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ..arguments import port_number
from ..environment.place import INSTALLED
from ..environment.ports import choose_ports
from ..errors import InstallationError, ServerError

__all__ = [
    "GRPC_PORT",
    "REST_PORT",
    "add_options",
    "check_options",
    "given_options",
    "missing_packages",
    "parse_label",
    "remedy",
]

GRPC_PORT, REST_PORT = 8500, 8501  # TensorFlow Serving's
MAX_MIB = 64
PACKAGES = ("google", "grpc", "httptools", "starlette", "uvicorn", "uvloop")


def add_options(parser: argparse._ActionsContainer, prefix: str = "") -> None:
    """--PREFIXgrpc-port and so on."""
    for name, port in (("grpc", GRPC_PORT), ("rest", REST_PORT)):
        parser.add_argument(
            f"--{prefix}{name}-port",
            type=port_number,
            default=port,
            metavar="PORT",
            help="0 takes any free one and prints it (default: %(default)s)",
        )
    parser.add_argument(
        f"--{prefix}model-config",
        type=Path,
        metavar="FILE",
        help="TensorFlow Serving's model config file: its version_labels are read, again when it changes",
    )
    parser.add_argument(
        f"--{prefix}version-label",
        action="append",
        type=_label,
        default=[],
        metavar="MODEL/LABEL=VERSION",
        help="a version label, as in resnet/stable=3; may be given again, and wins over the file",
    )
    parser.add_argument(
        f"--{prefix}max-mib",
        type=_mib,
        default=MAX_MIB,
        metavar="MIB",
        help="the largest request, and the largest tensor in one (default: %(default)s)",
    )


def given_options(arguments: argparse.Namespace, prefix: str) -> Iterator[str]:
    """Those with the prefix as words for the gateway's own command."""
    start = prefix.replace("-", "_")
    for name, value in vars(arguments).items():
        if name.startswith(start) and name != start.rstrip("_") and value is not None:
            option = name.removeprefix(start).replace("_", "-")
            for one in value if isinstance(value, list) else [value]:
                yield f"--{option}={one}"


def check_options(arguments: argparse.Namespace, prefix: str) -> None:
    """Before anything is started. Raises a `ServerError` for what would not come up."""
    if missing := missing_packages():
        raise InstallationError(f"--tfserving needs {' and '.join(missing)}; {remedy()}")
    given = vars(arguments)
    start = prefix.replace("-", "_")
    names = {f"{prefix}{name}": given[f"{start}{name}_port"] for name in ("grpc", "rest")}
    choose_ports(arguments.address, names)
    if file := given[f"{start}model_config"]:
        from .labels import LabelError, VersionLabels

        try:
            VersionLabels(file)
        except LabelError as error:
            raise ServerError(str(error)) from None


def missing_packages() -> list[str]:
    """What the gateway imports and is not installed."""
    return [name for name in PACKAGES if not find_spec(name)]


def remedy() -> str:
    """How to install what the gateway needs."""
    return "pip install 'triton-vision-server[tfserving]'" if INSTALLED else "run `make setup`"


def parse_label(text: str) -> tuple[tuple[str, str], int]:
    """MODEL/LABEL=VERSION, as ((model, label), version). Raises `ValueError`."""
    path, _, version = text.rpartition("=")
    model, _, label = path.rpartition("/")
    if not model or not label or not version.isdecimal():
        raise ValueError(f"'{text}' is not a version label; write MODEL/LABEL=VERSION, as in resnet/stable=3")
    return (model, label), int(version)


def _label(text: str) -> str:
    try:
        parse_label(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _mib(text: str) -> int:
    """1 to 2047: a protobuf message has less than 2 GiB."""
    if not text.isdecimal() or not 1 <= int(text) < 2048:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit; choose 1 to 2047 MiB")
    return int(text)
