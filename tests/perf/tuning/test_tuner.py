"""From rounds to a winner."""

from perf.harness.load import Load
from perf.tuning.decision import Objective
from perf.tuning.policy import Batching, Group, Policy
from perf.tuning.tuner import Options, Outcome, judge

HALVES = Policy((Group(1, "lower_cores"), Group(1, "upper_cores")), 1, Batching((2, 8, 32), 500))


ONE = Policy((Group(1),), 2, Batching())


WITHIN_60_MS = Objective("throughput", slo_p99_ms=60)


def test_disturbed_rounds_do_not_count_if_enough_are_left():
    current, candidate = ONE, HALVES

    def one(ours, theirs):
        return {
            current: {Load(8): {"throughput": ours, "p99_ms": 30}},
            candidate: {Load(8): {"throughput": theirs, "p99_ms": 30}},
        }

    outcome = Outcome(
        current, finalists=[candidate], rounds=[one(100, 120)] * 5 + [one(100, 10)], disturbed=[5]
    )
    judge(Options(WITHIN_60_MS, 1, None, 0.05, 64), outcome)
    assert outcome.winner == candidate
    outcome.disturbed = [4, 5]  # four are too few: all count
    judge(Options(WITHIN_60_MS, 1, None, 0.05, 64), outcome)
    assert outcome.winner is None
