"""When is one policy better than another? Beyond a margin, and beyond the noise.

The finalists are measured in rounds, one after the other (A B C A B C ...), so that whatever slows the
machine down slows all of them. What counts is the ratio of each pair of one round. A policy is better if

- it holds the p99 limit: the median of its rounds' p99 is not above it;
- the median of the ratios is at least 1 + margin: a smaller gain is not worth a change;
- the lower 95 % confidence bound of that median is above 1. The bound is the one of the sign test, an order
  statistic: no assumption on how the noise is distributed. With five to seven rounds it is the lowest ratio,
  so the policy must win every round; fewer than five rounds cannot decide anything.

Ratio: with the objective "throughput", of throughputs, each policy at the load where it is fastest within
the p99 limit (by medians); with "latency", of p99 at the same rate. Where the current policy holds the limit
at no load, its throughput says nothing, and p99 at the lowest loads are compared.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "CONFIDENCE",
    "MIN_ROUNDS",
    "Objective",
    "PolicyVerdict",
    "decide",
    "lower_bound",
    "operating_load",
]

CONFIDENCE = 0.95
MIN_ROUNDS = 5  # with fewer, even winning every round is likelier than 5 % by chance
KEEPS_UP = 0.9  # of the asked rate: less is no chance of the arrivals, the server falls behind

Measured = Mapping[str, Any]  # what perf.harness.load.measure gives; "throughput" and "p99_ms" are used here


@dataclass(frozen=True)
class Objective:
    """name: "throughput" within slo_p99_ms, or "latency" at `rate` requests/s (within the limit, if any)."""

    name: str
    slo_p99_ms: float | None = None
    rate: float | None = None

    def holds(self, measured: Measured, tolerance: float = 1.0) -> bool:
        """Whether a measurement is within the p99 limit (times `tolerance`), and keeps up with the rate."""
        if self.rate is not None and measured["throughput"] * tolerance < KEEPS_UP * self.rate:
            return False
        return self.slo_p99_ms is None or bool(measured["p99_ms"] <= self.slo_p99_ms * tolerance)

    def score(self, measured: Measured) -> float:
        """The more the better."""
        return float(measured["throughput"] if self.name == "throughput" else 1000 / measured["p99_ms"])

    def unit(self) -> str:
        """What `score` measures, in words."""
        return "throughput" if self.name == "throughput" else "1 / p99"


@dataclass(frozen=True)
class PolicyVerdict:
    """Of a candidate against the current policy.

    ratios: of each round, above 1 where the candidate is better; bound: of their median, see above.
    loads: where candidate and current policy were compared; None where one holds the limit nowhere.
    """

    better: bool
    reason: str
    ratios: list[float]
    median: float
    bound: float
    candidate_load: str | None
    current_load: str | None


def decide(
    candidate: Mapping[str, Sequence[Measured]],
    current: Mapping[str, Sequence[Measured]],
    objective: Objective,
    margin: float,
) -> PolicyVerdict:
    """Is `candidate` better? Both: the rounds' measurements by load, lowest load first, rounds in order."""
    theirs, ours = operating_load(candidate, objective), operating_load(current, objective)
    if theirs is not None and ours is not None:
        pairs = zip(candidate[theirs], current[ours], strict=True)
        ratios = [objective.score(a) / objective.score(b) for a, b in pairs]
        what = objective.unit()
    else:
        pairs = zip(candidate[theirs or next(iter(candidate))], next(iter(current.values())), strict=True)
        ratios = [b["p99_ms"] / a["p99_ms"] for a, b in pairs]
        what = "1 / p99"
    median, bound = statistics.median(ratios), lower_bound(ratios)
    told = f"{median:.3f} x the {what} ({min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} rounds)"
    if theirs is None:
        better, reason = (
            False,
            "it does not hold the p99 limit" + (" (nor does the current)" * (ours is None)),
        )
    elif bound <= 1:
        better, reason = False, f"{told}: within the noise"
    elif median < 1 + margin:
        better, reason = False, f"{told}: less than {margin:.0%} more"
    elif ours is None:
        better, reason = True, f"{told}, and it holds the p99 limit, which the current policy does not"
    else:
        better, reason = True, told
    return PolicyVerdict(better, reason, ratios, median, bound, theirs, ours)


def operating_load(levels: Mapping[str, Sequence[Measured]], objective: Objective) -> str | None:
    """The load with the best median score among those that hold the limit by their medians; None if none."""
    medians = {load: _medians(rounds) for load, rounds in levels.items()}
    held = [load for load, measured in medians.items() if objective.holds(measured)]
    return max(held, key=lambda load: objective.score(medians[load]), default=None)


def lower_bound(ratios: Sequence[float], confidence: float = CONFIDENCE) -> float:
    """Of the median, by the sign test: the k-th lowest, P(binomial(n, 1/2) < k) <= 1 - confidence.

    Minus infinity where there are too few. Source: any text on order statistics, e.g. Conover, Practical
    Nonparametric Statistics, 3.2.
    """
    count, below, k = len(ratios), 0.0, 0
    while k < count:
        below += math.comb(count, k) / 2**count
        if below > 1 - confidence:
            break
        k += 1
    return sorted(ratios)[k - 1] if k else -math.inf


def _medians(rounds: Sequence[Measured]) -> dict[str, float]:
    return {key: statistics.median(measured[key] for measured in rounds) for key in ("throughput", "p99_ms")}
