"""What is known of both versions in one stage of a rollout, and what follows. It knows nothing of servers."""

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .plan import Plan

__all__ = ["Evidence", "Side", "percentile"]

MOST_TIMES = 20_000  # the latest
SLACK_MS = 5.0  # no version is slow for so little
FEWEST_FAULTS = 10  # before a stage ends early
ROUNDING = 1e-9  # of shares


def percentile(times: list[float], share: float) -> float:
    """Of times in ascending order; 0 for none."""
    return times[min(len(times) - 1, int(len(times) * share))] if times else 0.0


@dataclass
class Side:
    """One version: how many requests it answered or failed, and the times of its answers (ms)."""

    requests: int = 0
    errors: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_TIMES))

    def add(self, error: bool, ms: float) -> None:
        """One request; nan: its time does not count."""
        self.requests += 1
        self.errors += error
        if not error and not math.isnan(ms):
            self.times.append(ms)

    @property
    def error_share(self) -> float:
        """Of its requests."""
        return self.errors / self.requests if self.requests else 0.0

    def describe(self) -> dict[str, Any]:
        """In numbers."""
        times = sorted(self.times)
        return {
            "requests": self.requests,
            "errors": self.errors,
            "p50_ms": round(percentile(times, 0.5), 3),
            "p99_ms": round(percentile(times, 0.99), 3),
        }


@dataclass
class Evidence:
    """Of one stage; threads may add to it. compared: copied requests that both answered.

    difference: the largest. unanswered: copied requests that the old version did not answer.
    """

    old: Side = field(default_factory=Side)
    new: Side = field(default_factory=Side)
    unanswered: int = 0
    compared: int = 0
    agreed: int = 0
    difference: float = 0.0
    error: str = ""  # the new version's latest
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, is_new: bool, error: bool, ms: float) -> None:
        """A request that one of them got."""
        with self._lock:
            (self.new if is_new else self.old).add(error, ms)

    def add_pair(
        self, old: tuple[str, float], new: tuple[str, float], alike: tuple[bool, float] | None
    ) -> None:
        """A request that both got: errors and times; whether they agree, and how far they are apart, or None.

        One that the old version cannot answer says nothing of the new one.
        """
        with self._lock:
            if old[0]:
                self.unanswered += 1
                return
            self.old.add(False, old[1])
            self.new.add(bool(new[0]), new[1])
            self.error = new[0] or self.error
            if alike:
                self.compared += 1
                self.agreed += alike[0]
                self.difference = max(self.difference, alike[1])

    def describe(self) -> dict[str, Any]:
        """In numbers."""
        with self._lock:
            agreement = round(self.agreed / self.compared, 4) if self.compared else None
            return {
                "old": self.old.describe(),
                "new": self.new.describe(),
                "unanswered": self.unanswered,
                "compared": self.compared,
                "agreement": agreement,
                "difference": self.difference if self.compared and math.isfinite(self.difference) else None,
            }

    def enough(self, plan: Plan) -> bool:
        """Whether it is of as many requests as were asked for, of either version."""
        return min(self.old.requests, self.new.requests) >= plan.requests

    def against(self, plan: Plan) -> str:
        """Why the new version will not do, or ""; at any time, as far as more requests could not mend it."""
        with self._lock:
            return (
                self._errors(plan) or self._answers(plan) or (self._times(plan) if self.enough(plan) else "")
            )

    def _errors(self, plan: Plan) -> str:
        more = self.new.errors - self.old.error_share * self.new.requests
        too_many = more > plan.max_errors * max(self.new.requests, plan.requests) + ROUNDING
        if not too_many or not (self.enough(plan) or more >= FEWEST_FAULTS):
            return ""
        last = f"; the last: {self.error}" if self.error else ""
        return (
            f"errors: {self.new.errors} of {self.new.requests} with the new version, {self.old.errors} of "
            f"{self.old.requests} with the old one, and {plan.max_errors:.2%} more are allowed{last}"
        )

    def _answers(self, plan: Plan) -> str:
        others = self.compared - self.agreed
        too_many = others > (1 - plan.min_agreement) * max(self.compared, plan.requests) + ROUNDING
        if too_many and (self.enough(plan) or others >= FEWEST_FAULTS):
            return (
                f"answers: {self.agreed} of {self.compared} are those of the old version, and "
                f"{plan.min_agreement:.1%} are asked for"
            )
        if plan.max_difference is not None and self.difference > plan.max_difference:
            return f"answers: one differs by {self.difference:g}, and {plan.max_difference:g} is allowed"
        return ""

    def _times(self, plan: Plan) -> str:
        old, new = sorted(self.old.times), sorted(self.new.times)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            before, now = percentile(old, share), percentile(new, share)
            if now > before * plan.max_slowdown + SLACK_MS:
                return (
                    f"latency: {name} {now:.1f} ms with the new version, {before:.1f} ms with the old one, "
                    f"and {plan.max_slowdown:g} times that and {SLACK_MS:g} ms are allowed"
                )
        return ""
