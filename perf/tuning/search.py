"""The coarse search: short measurements, stage by stage, and whatever is clearly behind is dropped early.

Each stage changes one side of the policy and goes on from the best of the stages before; a policy that is far
behind the best is measured once and no more. At the end the best are measured again, for longer, and the
better half of them goes to the finals.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import AnalyzerError
from perf.harness.load import Load
from perf.tuning.decision import Objective
from perf.tuning.policy import Policy

__all__ = ["CURRENT", "LoadError", "PolicyTrial", "Search"]

CURRENT = "current"  # the stage of the policy that is there; measured until its best load is found

CONCURRENCIES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
FIRST_CONCURRENCY = 4
NEAR = 1.15  # times the p99 limit: what a short measurement may show of a policy that holds it
FAR = 0.75  # times the p99 limit: below it there is room for more load
DOMINATED = 0.75  # times the best score: below it a policy is not measured again
STEPS = 3  # loads that one trial measures at most
FALLBACK = 1.5  # from one load of a finalist to the other
GROWTH = 1.02  # of the throughput, from one load to the next: below it more load brings nothing
ERROR_CHARACTERS = 400
KEPT = 2  # policies that a stage hands on


class LoadError(PerfError):
    """The server does not load a policy; the message is the server's."""


@dataclass
class PolicyTrial:
    """One policy, measured coarsely.

    levels: what `perf.harness.load.measure` gave, by load; the longest windows win.
    error: why the server does not load it, or why it could not be measured; "" if it could.
    dropped: why it was not measured further; "" if it was.
    """

    stage: str
    policy: Policy
    levels: dict[Load, dict[str, Any]] = field(default_factory=dict)
    error: str = ""
    dropped: str = ""


@dataclass
class Search:
    """Runs trials.

    load(policy)            the server serves it from now on; raises `LoadError`
    measure(load, factor)   one level; factor: times the shortest windows
    time_is_up()            whether the coarse search must end
    say(text)               progress
    """

    objective: Objective
    load: Callable[[Policy], None]
    measure: Callable[[Load, float], dict[str, Any]]
    time_is_up: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda text: None
    max_concurrency: int = 64
    trials: list[PolicyTrial] = field(default_factory=list)
    skipped: list[Policy] = field(default_factory=list)

    def stage(self, name: str, policies: Iterable[Policy], factor: float = 1) -> None:
        """Try each policy that was not tried yet (with a factor above 1: each, again)."""
        for policy in policies:
            known = next((trial for trial in self.trials if trial.policy == policy), None)
            if known and factor <= 1:
                continue
            if self.time_is_up():
                self.skipped.append(policy)
                continue
            trial = known or PolicyTrial(name, policy)
            if not known:
                self.trials.append(trial)
            self._try(trial, factor)
            self.say(f"{name}: {policy}: {self.told(trial)}")

    def best(self, count: int = KEPT) -> list[Policy]:
        """Of all trials, the ones with the highest scores, best first; those far behind are left out."""
        ranked = self._ranked()
        if not ranked:
            return []
        highest = self.score(ranked[0])
        least = DOMINATED * highest if highest > 0 else highest  # below zero: none holds the limit
        return [trial.policy for trial in ranked[:count] if self.score(trial) >= least]

    def score(self, trial: PolicyTrial) -> float:
        """The best among the levels that hold the limit, or nearly; below zero if none does."""
        held = [m for m in trial.levels.values() if self.objective.holds(m, NEAR)]
        if held:
            return max(map(self.objective.score, held))
        return -min((m["p99_ms"] for m in trial.levels.values()), default=float("inf"))

    def trial(self, policy: Policy) -> PolicyTrial:
        """The one of that policy, which has been tried; raises `StopIteration` if not."""
        return next(trial for trial in self.trials if trial.policy == policy)

    def loads_for_finals(self, policies: Sequence[Policy]) -> dict[Policy, list[Load]]:
        """Where each finalist is measured, lowest load first.

        Where it is best, and at two thirds of that at most, should the p99 limit prove too near there; where
        its p99 leaves room, at the next higher best load of another finalist instead.
        """
        if self.objective.rate is not None:
            return {policy: [self._rate()] for policy in policies}
        best = {policy: self._best_load(self.trial(policy)) for policy in policies}
        return {policy: self._around(self.trial(policy), best[policy], best.values()) for policy in policies}

    def _around(self, trial: PolicyTrial, own: Load, others: Collection[Load]) -> list[Load]:
        at = _concurrency(own)
        lower = [Load(c) for c in self._concurrencies() if c <= at / FALLBACK]
        if self._leaves_room(trial.levels[own]):
            higher = [o for o in others if at < _concurrency(o) <= FALLBACK * at]
            return [own, *sorted(set(higher), key=_concurrency)[:1]]
        return [*lower[-1:], own]

    def told(self, trial: PolicyTrial) -> str:
        """A trial in words: inferences/s and p99 in ms at each load, or why it failed."""
        if trial.error:
            return f"failed: {trial.error}"
        figures = [
            f"{m['throughput']:.0f}/s p99 {m['p99_ms']:.0f} ms at {load}" for load, m in trial.levels.items()
        ]
        return "; ".join(figures) + (f" ({trial.dropped})" if trial.dropped else "")

    def _try(self, trial: PolicyTrial, factor: float) -> None:
        try:
            self.load(trial.policy)
            if self.objective.rate is not None:
                trial.levels[self._rate()] = self.measure(self._rate(), factor)
            elif factor > 1:  # again, for longer, where it was best
                load = self._best_load(trial)
                trial.levels[load] = self.measure(load, factor)
            else:
                self._climb(trial)
        except (LoadError, AnalyzerError) as error:
            trial.error = " ".join(str(error).split())[:ERROR_CHARACTERS]

    def _climb(self, trial: PolicyTrial) -> None:
        """From the load where the best policy so far is at its best, down or up until the limit is met."""
        load, direction, before = self._first_load(), 0, 0.0
        for _ in range(len(CONCURRENCIES) if trial.stage == CURRENT else STEPS):
            measured = trial.levels[load] = self.measure(load, 1)
            if self._is_far_behind(measured):
                trial.dropped = "far behind"
                return
            if not self.objective.holds(measured, NEAR):
                step = -1
            elif self._leaves_room(measured):
                step = 1
            else:
                return
            if (direction and step != direction) or (step > 0 and measured["throughput"] < GROWTH * before):
                return
            direction, before, after = step, measured["throughput"], self._step(load, step)
            if after == load:
                return
            load = after

    def _leaves_room(self, measured: Mapping[str, Any]) -> bool:
        """Whether the p99 limit is far enough for more load; without one, it always is."""
        limit = self.objective.slo_p99_ms
        return limit is None or bool(measured["p99_ms"] <= FAR * limit)

    def _is_far_behind(self, measured: dict[str, Any]) -> bool:
        best = max((self.score(trial) for trial in self.trials), default=0)
        return bool(measured["throughput"] < DOMINATED * best)

    def _first_load(self) -> Load:
        """Where the best policy so far is fastest within the limit."""
        ranked = self._ranked()
        return self._best_load(ranked[0]) if ranked else Load(min(FIRST_CONCURRENCY, self.max_concurrency))

    def _best_load(self, trial: PolicyTrial) -> Load:
        held = [load for load, m in trial.levels.items() if self.objective.holds(m, NEAR)]
        if not held:
            return min(trial.levels, key=_concurrency)
        return max(held, key=lambda load: self.objective.score(trial.levels[load]))

    def _ranked(self) -> list[PolicyTrial]:
        measured = [trial for trial in self.trials if trial.levels and not trial.error]
        return sorted(measured, key=self.score, reverse=True)

    def _concurrencies(self) -> list[int]:
        return [c for c in CONCURRENCIES if c < self.max_concurrency] + [self.max_concurrency]

    def _step(self, load: Load, step: int) -> Load:
        ladder = self._concurrencies()
        place = min(max(ladder.index(_concurrency(load)) + step, 0), len(ladder) - 1)
        return Load(ladder[place])

    def _rate(self) -> Load:
        return Load(request_rate=self.objective.rate, distribution="poisson")


def _concurrency(load: Load) -> int:
    """Of a closed load; a search without a rate has no others."""
    assert load.concurrency is not None
    return load.concurrency
