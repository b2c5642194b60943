"""One finding of the doctor, and how a list of them is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["GREEN", "RED", "YELLOW", "Check", "Facts", "worst"]

Facts = Mapping[str, Mapping[str, Any]]  # of one release of release.json: each has a "value"

GREEN, YELLOW, RED = "green", "yellow", "red"
LEVELS = (GREEN, YELLOW, RED)  # from good to bad


@dataclass(frozen=True)
class Check:
    """level: green (good), yellow (works, but less than it could) or red (will not work).

    found: what is so, with its value; next: the command or step that mends it, "" where nothing is to do.
    """

    name: str
    level: str
    found: str
    next: str = ""


def worst(checks: list[Check]) -> str:
    """The level that is furthest from good; green where there is no check."""
    return max((check.level for check in checks), key=LEVELS.index, default=GREEN)
