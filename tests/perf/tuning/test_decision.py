"""A decision needs more than noise."""

import numpy as np
import pytest

from perf.tuning.decision import Objective, decide, lower_bound, operating_load

WITHIN_60_MS = Objective("throughput", slo_p99_ms=60)


def rounds(*pairs):
    return [{"throughput": throughput, "p99_ms": p99} for throughput, p99 in pairs]


STEADY = {"8": rounds((100, 50), (104, 52), (96, 48), (101, 50), (99, 50))}


@pytest.mark.parametrize(
    ("candidate", "better", "reason"),
    [
        (rounds((150, 40), (160, 42), (149, 40), (151, 41), (152, 41)), True, r"1\.5.. x the throughput"),
        (rounds((60, 40), (61, 42), (59, 40), (62, 41), (60, 41)), False, "within the noise"),
        (rounds((112, 40), (95, 42), (120, 40), (110, 41), (130, 41)), False, "within the noise"),
        (rounds((103, 40), (107, 42), (99, 40), (104, 41), (102, 41)), False, r"less than 5% more"),
        (rounds((150, 61), (160, 59), (149, 62), (151, 63), (152, 58)), False, "does not hold the p99 limit"),
        (rounds((150, 40), (160, 42), (149, 40), (151, 41)), False, "within the noise"),
    ],
    ids=["better", "worse", "noise", "too little", "over the limit", "too few rounds"],
)
def test_a_candidate_is_better_beyond_margin_and_noise_within_the_limit(candidate, better, reason):
    current = {"8": STEADY["8"][: len(candidate)]}
    verdict = decide({"8": candidate}, current, WITHIN_60_MS, 0.05)
    assert verdict.better is better
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(verdict.reason)


def test_noise_between_rounds_does_not_hide_a_gain_within_them():
    slow_machine = (1.0, 0.6, 1.0, 0.5, 0.9)
    current = {"8": rounds(*((100 * slow, 30 / slow) for slow in slow_machine))}
    candidate = {"8": rounds(*((110 * slow, 30 / slow) for slow in slow_machine))}
    assert decide(candidate, current, WITHIN_60_MS, 0.05).better


def test_each_policy_is_judged_at_the_load_where_it_is_fastest_within_the_limit():
    levels = {
        "4": rounds((90, 30), (91, 30)),
        "8": rounds((100, 59), (99, 58)),
        "12": rounds((110, 61), (111, 70)),
    }
    assert operating_load(levels, WITHIN_60_MS) == "8"
    assert operating_load({"12": levels["12"]}, WITHIN_60_MS) is None


def test_a_current_policy_beyond_the_limit_is_compared_by_p99():
    slow = {"1": rounds(*[(300, 90)] * 5)}
    fine = {"4": rounds(*[(200, 50)] * 5)}
    verdict = decide(fine, slow, WITHIN_60_MS, 0.05)
    assert verdict.better
    assert "which the current policy does not" in verdict.reason
    assert not decide(slow, slow, WITHIN_60_MS, 0.05).better


def test_the_latency_objective_compares_p99_and_wants_the_rate_kept():
    objective = Objective("latency", rate=100)
    current = {"r": rounds(*[(100, 50)] * 5)}
    assert decide({"r": rounds(*[(100, 40)] * 5)}, current, objective, 0.05).median == pytest.approx(1.25)
    assert not decide({"r": rounds(*[(80, 40)] * 5)}, current, objective, 0.05).better


@pytest.mark.parametrize(("count", "place"), [(4, None), (5, 0), (7, 0), (8, 1), (11, 2)])
def test_the_bound_is_that_of_the_sign_test(count, place):
    ratios = [float(n) for n in range(count)]
    assert lower_bound(ratios[::-1]) == (ratios[place] if place is not None else -np.inf)
