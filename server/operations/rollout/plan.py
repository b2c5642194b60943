"""What a rollout is told: a model, its new version, how many requests are asked for, what it has to reach."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...errors import ServerError

__all__ = ["Plan", "PlanError"]


class PlanError(ServerError):
    """A rollout cannot be as it was asked for."""


@dataclass(frozen=True)
class Plan:
    """share: of the requests, 0.001 to 1: first copied to both versions, then answered by the new one.

    shadow: they are copied only, and no client gets an answer of the new version before it is promoted.
    through: models whose code calls this one, so that their requests count, too; ensembles do anyway.
    requests, seconds: each stage takes at least so many and so long. timeout_s: for all of it, loads left
    out.
    max_errors: share of the requests that may fail with the new version more than with the old one.
    max_slowdown: p50 and p99 of the new version's times, by those of the old one.
    min_agreement: share of the copied requests that both answer alike. max_difference: of any value of
    theirs, or None.
    record: folder for the copied requests and their answers, or None: nothing of them is kept.
    """

    model: str
    version: int
    share: float = 0.1
    shadow: bool = False
    through: tuple[str, ...] = ()
    requests: int = 500
    seconds: float = 60.0
    timeout_s: float = 1800.0
    max_errors: float = 0.005
    max_slowdown: float = 1.5
    min_agreement: float = 0.95
    max_difference: float | None = None
    record: str | None = None

    def __post_init__(self) -> None:
        checks = (
            (self.version >= 1, f"version {self.version} cannot be; versions are 1, 2, ..."),
            (0.001 <= self.share <= 1, "--canary has to be 0.1% to 100%"),
            (self.requests >= 1, "--requests has to be 1 or more"),
            (0 <= self.seconds < self.timeout_s, "--seconds has to be 0 or more, and less than --timeout"),
            (0 <= self.max_errors <= 1, "--max-errors has to be 0% to 100%"),
            (1 <= self.max_slowdown < math.inf, "--max-slowdown has to be 1 or more"),
            (0 <= self.min_agreement <= 1, "--min-agreement has to be 0% to 100%"),
            (self.max_difference is None or self.max_difference >= 0, "--max-difference has to be 0 or more"),
            (self.record is None or Path(self.record).is_absolute(), "--record has to be an absolute path"),
        )
        if wrong := [words for right, words in checks if not right]:
            raise PlanError("; ".join(wrong))

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Plan":
        """Raises `PlanError`."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(given.keys() - known):
            raise PlanError(
                f"a rollout has no {unknown[0]}; is the launcher of another release than this command?"
            )
        numbers = (
            "share",
            "seconds",
            "timeout_s",
            "max_errors",
            "max_slowdown",
            "min_agreement",
            "max_difference",
        )
        try:
            values: dict[str, Any] = {
                name: float(value) if name in numbers and value is not None else value
                for name, value in given.items()
            }
            return cls(**{**values, "through": tuple(map(str, values.get("through", ())))})
        except (TypeError, ValueError, OverflowError) as error:
            raise PlanError(f"a rollout cannot be told so: {error}") from None
