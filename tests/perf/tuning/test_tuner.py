"""From rounds to a winner."""

from perf.harness.load import Load
from perf.tuning.decision import Objective
from perf.tuning.policy import Batching, Group, Policy
from perf.tuning.tuner import Options, Outcome, judge

HALVES = Policy((Group(1, "lower_cores"), Group(1, "upper_cores")), 1, Batching((2, 8, 32), 500))


ONE = Policy((Group(1),), 2, Batching())


WITHIN_60_MS = Objective("throughput", slo_p99_ms=60)


def one(ours, theirs):
    """A round of the current policy, `ONE`, and a candidate, `HALVES`."""
    return {
        ONE: {Load(8): {"throughput": ours, "p99_ms": 30}},
        HALVES: {Load(8): {"throughput": theirs, "p99_ms": 30}},
    }


def test_disturbed_rounds_do_not_count_if_enough_are_left():
    rounds = [one(100, 120)] * 5 + [one(100, 10)]
    outcome = Outcome(ONE, finalists=[HALVES], rounds=rounds, disturbed=[5])
    judge(Options(WITHIN_60_MS, 1, None, 0.05, 64), outcome)
    assert outcome.winner == HALVES


def test_nothing_is_decided_if_too_few_rounds_were_quiet():
    """However clear it looks: five are the least, and the sixth was disturbed, too."""
    outcome = Outcome(ONE, finalists=[HALVES], rounds=[one(100, 300)] * 6, disturbed=[4, 5])
    judge(Options(WITHIN_60_MS, 1, None, 0.05, 64), outcome)
    assert (outcome.winner, outcome.verdicts) == (None, {})
    assert "other programs took the cores in 2 of 6 rounds" in outcome.undecided
    assert "tune again" in outcome.undecided
    outcome = Outcome(ONE, finalists=[HALVES], rounds=[one(100, 300)] * 6)
    judge(Options(WITHIN_60_MS, 1, None, 0.05, 64), outcome)
    assert (outcome.winner, outcome.undecided) == (HALVES, "")
