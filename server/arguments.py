"""What the commands' arguments have in common, and what they may be."""

import argparse
import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .running.doors import CLOSED_GROUPS

__all__ = [
    "STATUSES",
    "add_command",
    "add_repository",
    "add_verify_key",
    "api_groups",
    "port_number",
    "seconds",
]


STATUSES = "exit status: 0 done, 1 could not, 2 wrong usage"


class RepositoryAction(argparse.Action):
    """The model repository as REPOSITORY, where it is given; `--model-repository` has the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if values is not None:
            namespace.model_repository = Path(str(values))


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    """A command of a command; text: what it does, in the list of both and in its own help."""
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=STATUSES)


def add_repository(parser: argparse.ArgumentParser) -> None:
    """REPOSITORY or `--model-repository`, as `model_repository`, a Path."""
    parser.add_argument(
        "repository",
        nargs="?",
        metavar="REPOSITORY",
        action=RepositoryAction,
        help="folder with a folder per model",
    )
    parser.add_argument(
        "--model-repository",
        type=Path,
        default=Path("model_repository"),
        metavar="REPOSITORY",
        help="the same, as an option (default: %(default)s)",
    )


def add_verify_key(parser: argparse.ArgumentParser, text: str) -> None:
    """`--verify-key`, as `verify_key`, a list of Paths. text: of help."""
    parser.add_argument(
        "--verify-key", type=Path, action="append", default=[], metavar="PUBLIC.pem", help=text
    )


def port_number(text: str) -> int:
    """0 to 65535. Raises `ArgumentTypeError`."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; choose 1 to 65535, or 0 for any free one")
    return int(text)


def seconds(text: str) -> float:
    """More than 0. Raises `ArgumentTypeError`."""
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no time to wait; give seconds, more than 0")


def api_groups(text: str) -> tuple[str, ...]:
    """Of `CLOSED_GROUPS`, with commas between; "" is none. Raises `ArgumentTypeError` for others."""
    groups = tuple(group.strip() for group in text.split(",") if group.strip())
    if unknown := [group for group in groups if group not in CLOSED_GROUPS]:
        raise argparse.ArgumentTypeError(f"no group {unknown[0]}; choose from {', '.join(CLOSED_GROUPS)}")
    return groups
