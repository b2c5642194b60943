"""From the current policy to a verdict: the coarse search, the finals, the decision, and all that as data."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from export.lint.config_checks.batching import limits_queue
from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import AnalyzerError
from perf.harness.load import WINDOWS, Load
from perf.tuning import space
from perf.tuning.bench import Bench
from perf.tuning.decision import MIN_ROUNDS, Objective, PolicyVerdict, decide
from perf.tuning.policy import SPINNING_KEY, Policy, policy_of, scheduler_of
from perf.tuning.search import CURRENT, LoadError, PolicyTrial, Search

__all__ = ["Clock", "Options", "Outcome", "content", "rounds_that_count", "tune"]

COARSE_SHARE = 0.45  # of the budget, for the search; the finals get the rest
AGAIN = 4  # of the coarse search, measured again for longer
LONGER = 2.0  # times the shortest windows
FINALISTS = 2  # and the current policy
FINAL_FACTOR = 3.0
REPEATS_LEFT = 0.8  # of the time for the finals; the rest is for rounds that were disturbed
MOST_ROUNDS = 11
FIRST_SIZE = 4  # batches worth waiting for begin here (docs/decisions/0005)


Round = dict[Policy, dict[Load, dict[str, Any]]]  # measurements by policy and load


@dataclass(frozen=True)
class Options:
    """budget_s: seconds for all; margin: the least gain worth a change, 0.05 is 5 %.

    rounds: of the finals; None takes as many as fit into the budget.
    spinning: whether the backend reads `session.intra_op.allow_spinning`, so that it is worth trying.
    """

    objective: Objective
    budget_s: float
    rounds: int | None
    margin: float
    max_concurrency: int
    spinning: bool = False


@dataclass
class Outcome:
    """What tuning found, as far as it came.

    rounds: of the finals. disturbed: numbers of those in which other programs took the cores, from 0.
    undecided: why nothing is decided, and what to do; "" if it is. winner: None leaves the policy.
    """

    current: Policy
    trials: list[PolicyTrial] = field(default_factory=list)
    skipped: list[Policy] = field(default_factory=list)
    finalists: list[Policy] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    disturbed: list[int] = field(default_factory=list)
    verdicts: dict[Policy, PolicyVerdict] = field(default_factory=dict)
    undecided: str = ""
    winner: Policy | None = None


@dataclass
class Clock:
    """Time since the start, against the budget; seconds."""

    budget_s: float
    started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds; below 0 once the budget is spent."""
        return self.budget_s - (time.monotonic() - self.started)

    def coarse_is_over(self) -> bool:
        """Whether only the finals' part of the budget is left."""
        return self.left() < (1 - COARSE_SHARE) * self.budget_s


def tune(bench: Bench, options: Options, outcome: Outcome, clock: Clock, say: Callable[[str], None]) -> None:
    """Fill in `outcome`, step by step, so that what was measured is there if this is interrupted.

    Raises `PerfError` if the current policy cannot be measured.
    """
    search = Search(
        options.objective,
        bench.load,
        lambda load, factor: undisturbed(bench, load, factor, clock),
        clock.coarse_is_over,
        say,
        options.max_concurrency,
        outcome.trials,
        outcome.skipped,
    )
    current = outcome.current
    search.stage(CURRENT, [current])
    if error := search.trial(current).error:
        raise PerfError(
            f"the server does not load the current config, so there is nothing to compare: {error}"
        )
    explore(bench, options, search)
    ranked = search.best(FINALISTS + 1)
    outcome.finalists = [policy for policy in ranked if policy != current][:FINALISTS]
    if not outcome.finalists:
        say("nothing comes near the current policy")
        return
    finals(bench, options, search, outcome, clock, say)
    judge(options, outcome)


def explore(bench: Bench, options: Options, search: Search) -> None:
    """The stages of the coarse search."""
    current, slo = policy_of(bench.config), options.objective.slo_p99_ms
    maximum = bench.config.max_batch_size if scheduler_of(bench.config) else 0
    first = space.start(current, [2**n for n in range(2, 12) if FIRST_SIZE <= 2**n <= maximum])
    gpu = bench.on_gpu()
    threads = bench.reads_threads() and not gpu
    search.stage(
        "placement",
        space.placements(first, bench.cores, bench.host_policies, threads=threads, gpu=gpu),
    )
    for policy in search.best():
        search.stage("batch sizes", space.sizes(policy, maximum))
    for policy in search.best(1):
        limited = limits_queue(bench.config.dynamic_batching)
        search.stage("queue delay", space.delays(policy, slo, limited=limited))
    if options.spinning or SPINNING_KEY in bench.config.parameters:
        for policy in search.best(1):
            search.stage("spinning", space.spinnings(policy))
    search.stage("again, longer", search.best(AGAIN), LONGER)


def finals(
    bench: Bench,
    options: Options,
    search: Search,
    outcome: Outcome,
    clock: Clock,
    say: Callable[[str], None],
) -> None:
    """The current policy and the finalists in turn, round after round, with windows that fill the budget."""
    loads = search.loads_for_finals([outcome.current, *outcome.finalists])
    rounds, factor = plan(bench, options, loads, REPEATS_LEFT * clock.left())
    say(f"finals: {len(loads)} policies in turn, {rounds} rounds, {factor * bench.seconds:.1f} s a window")
    quiet, number, longest = 0, 0, 0.0
    while number < rounds or (quiet < rounds and clock.left() > longest):
        number += 1
        started = time.monotonic()
        measured: Round = {}
        for policy in list(loads):
            try:
                bench.load(policy)
                measured[policy] = {load: bench.measure(load, factor) for load in loads[policy]}
            except (LoadError, AnalyzerError) as error:
                if policy == outcome.current:
                    raise
                say(f"finals: {policy}: dropped: {error}")
                del loads[policy]
                continue
            told = search.told(PolicyTrial("", policy, measured[policy]))
            say(f"round {number}: {'current policy' if policy == outcome.current else policy}: {told}")
        outcome.rounds.append(measured)
        if any(bench.disturbed(level) for levels in measured.values() for level in levels.values()):
            outcome.disturbed.append(number - 1)
            say(f"round {number} was disturbed by other programs")
        else:
            quiet += 1
        longest = max(longest, time.monotonic() - started)
    outcome.finalists = [policy for policy in outcome.finalists if policy in loads]


def plan(bench: Bench, options: Options, loads: dict[Policy, list[Load]], left_s: float) -> tuple[int, float]:
    """How many rounds, and how many times the shortest windows, fit into the time that is left.

    More rounds say more than longer windows, as the machine's slow changes are between rounds.
    """
    levels = sum(map(len, loads.values()))
    fixed = len(loads) * statistics.mean(bench.loads) + levels * statistics.mean(bench.overheads)

    def cost(factor: float) -> float:
        return fixed + WINDOWS * levels * bench.seconds * factor

    rounds = options.rounds or min(max(int(left_s / cost(FINAL_FACTOR)), MIN_ROUNDS), MOST_ROUNDS)
    factor = (left_s / rounds - fixed) / (WINDOWS * levels * bench.seconds)
    return rounds, min(max(factor, 1.0), FINAL_FACTOR)


def undisturbed(bench: Bench, load: Load, factor: float, clock: Clock) -> dict[str, Any]:
    """One level, and once more if it was disturbed; the quieter one."""
    measured = bench.measure(load, factor)
    if not bench.disturbed(measured) or clock.coarse_is_over():
        return measured
    return min(measured, bench.measure(load, factor), key=lambda level: level["others_cores"])


def rounds_that_count(outcome: Outcome) -> list[Round]:
    """Those that nothing disturbed."""
    return [one for number, one in enumerate(outcome.rounds) if number not in outcome.disturbed]


def judge(options: Options, outcome: Outcome) -> None:
    """Fill in the verdicts and the winner; or why there are none, if other programs disturbed the rounds."""
    rounds = rounds_that_count(outcome)
    if outcome.disturbed and len(rounds) < MIN_ROUNDS:
        outcome.undecided = (
            f"other programs took the cores in {len(outcome.disturbed)} of {len(outcome.rounds)} rounds, and "
            f"{MIN_ROUNDS} quiet ones are the least that tell a gain from noise. Stop what else runs here "
            "(`top` shows it), or give it more time with --budget-minutes, and tune again"
        )
        return
    by_policy = {
        policy: {str(load): [measured[policy][load] for measured in rounds] for load in rounds[0][policy]}
        for policy in (outcome.current, *outcome.finalists)
    }
    current = by_policy.pop(outcome.current)
    outcome.verdicts = {
        policy: decide(levels, current, options.objective, options.margin)
        for policy, levels in by_policy.items()
    }
    better = [policy for policy, verdict in outcome.verdicts.items() if verdict.better]
    outcome.winner = max(better, key=lambda policy: outcome.verdicts[policy].median, default=None)


def content(outcome: Outcome) -> dict[str, Any]:
    """Of a raw result."""
    return {
        "current": asdict(outcome.current),
        "trials": [
            {
                "stage": trial.stage,
                "policy": asdict(trial.policy),
                "levels": list(trial.levels.values()),
                "error": trial.error,
                "dropped": trial.dropped,
            }
            for trial in outcome.trials
        ],
        "not_tried_for_lack_of_time": [asdict(policy) for policy in outcome.skipped],
        "finalists": [asdict(policy) for policy in outcome.finalists],
        "rounds": [
            [{"policy": asdict(policy), "levels": list(levels.values())} for policy, levels in round_.items()]
            for round_ in outcome.rounds
        ],
        "disturbed_rounds": outcome.disturbed,
        "undecided": outcome.undecided,
        "verdicts": [
            {"policy": asdict(policy), **asdict(verdict)} for policy, verdict in outcome.verdicts.items()
        ],
        "winner": outcome.winner and asdict(outcome.winner),
    }
