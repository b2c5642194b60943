"""The three ways in which a documented command is held; see `tests/commands.py`."""

from dataclasses import dataclass

__all__ = ["NAME", "Here", "NotRun", "RunBy"]

NAME = "it names the program, or its kinds of commands, and nothing to run"


@dataclass(frozen=True)
class Here:
    """Run in a copy of the project. short: what is run instead of the command itself.

    long: by `make test-long` only.
    """

    pattern: str
    short: str = ""
    long: bool = False


@dataclass(frozen=True)
class RunBy:
    pattern: str
    test: str


@dataclass(frozen=True)
class NotRun:
    pattern: str
    reason: str
