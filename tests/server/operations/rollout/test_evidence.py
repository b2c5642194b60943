"""What is decided of what was seen, without a server."""

import math

import pytest

from server.operations.rollout.evidence import FEWEST_FAULTS, Evidence, percentile
from server.operations.rollout.plan import Plan, PlanError

PLAN = Plan("model", 2, requests=100, min_agreement=0.9, max_errors=0.02)


def seen(old_errors=0, new_errors=0, agreed=100, old_ms=10.0, new_ms=10.0, requests=100, difference=0.0):
    evidence = Evidence()
    for number in range(requests):
        old, new = number < old_errors, number < new_errors
        alike = None if old or new else (number < agreed, difference)
        evidence.add_pair(("old" * old, old_ms), ("new" * new, new_ms), alike)
    return evidence


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, ""),
        ({"new_errors": 2}, ""),
        ({"new_errors": 3}, "errors: 3 of 100 with the new version, 0 of 100 with the old one"),
        ({"agreed": 90}, ""),
        ({"agreed": 89}, "answers: 89 of 100 are those of the old version, and 90.0% are asked for"),
        ({"new_ms": 20.0}, ""),  # 1.5 times 10, and 5
        ({"new_ms": 20.1}, "latency: p50 20.1 ms with the new version, 10.0 ms with the old one"),
        ({"old_ms": 20.0}, ""),
        ({"new_ms": math.nan}, ""),  # the first of a connection
        ({"difference": 1e9}, ""),
    ],
)
def test_reasons(facts, reason):
    found = seen(**facts).against(PLAN)
    assert found.startswith(reason) if reason else found == ""


def test_the_slowest_count_by_themselves():
    evidence = seen(requests=98)
    for _ in range(2):
        evidence.add_pair(("", 10.0), ("", 100.0), (True, 0.0))
    assert evidence.against(PLAN).startswith("latency: p99 100.0 ms")


def test_what_more_requests_could_mend_waits_for_them():
    few = seen(new_errors=3, requests=50)
    assert (few.enough(PLAN), few.against(PLAN)) == (False, "")
    assert seen(new_errors=FEWEST_FAULTS, requests=FEWEST_FAULTS).against(PLAN).startswith("errors: ")
    assert seen(agreed=0, requests=FEWEST_FAULTS).against(PLAN) == ""  # the 90 others could agree
    assert seen(agreed=0, requests=FEWEST_FAULTS + 1).against(PLAN).startswith("answers: ")
    assert seen(new_ms=1000.0, requests=99).against(PLAN) == ""


def test_what_the_old_version_cannot_answer_says_nothing():
    evidence = seen(old_errors=100, new_errors=100)
    assert (evidence.enough(PLAN), evidence.against(PLAN)) == (False, "")
    assert evidence.describe()["unanswered"] == 100


@pytest.mark.parametrize(
    ("errors", "reason"), [(12, ""), (13, "errors: 13 of 100 with the new version, 10 of 100")]
)
def test_errors_of_clients_are_those_of_both(errors, reason):
    evidence = Evidence()
    for number in range(100):
        evidence.add(False, number < 10, 1.0)
        evidence.add(True, number < errors, 1.0)
    assert evidence.against(PLAN).startswith(reason) if reason else evidence.against(PLAN) == ""


def test_both_versions_need_requests():
    evidence = Evidence()
    for _ in range(100):
        evidence.add(False, False, 1.0)
    assert not evidence.enough(PLAN)


def test_a_difference_counts_where_it_was_asked_for():
    plan = Plan("model", 2, requests=100, max_difference=0.5)
    assert seen(difference=0.5).against(plan) == ""
    assert seen(difference=0.6, requests=1).against(plan) == "answers: one differs by 0.6, and 0.5 is allowed"


def test_percentiles():
    assert [percentile(sorted(map(float, range(1, 101))), share) for share in (0.0, 0.5, 0.99, 1.0)] == [
        1,
        51,
        100,
        100,
    ]
    assert percentile([], 0.5) == 0.0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"version": 0}, "versions are 1, 2, ..."),
        ({"share": 0.0}, "--canary"),
        ({"share": 1.1}, "--canary"),
        ({"requests": 0}, "--requests"),
        ({"seconds": 1800.0}, "--timeout"),
        ({"seconds": math.nan}, "--timeout"),
        ({"max_slowdown": 0.5}, "--max-slowdown"),
        ({"max_slowdown": math.nan}, "--max-slowdown"),
        ({"max_difference": -1.0}, "--max-difference"),
        ({"min_agreement": 2.0}, "--min-agreement"),
        ({"record": "here"}, "absolute"),
    ],
)
def test_plans_that_cannot_be(wrong, says):
    with pytest.raises(PlanError, match=says):
        Plan(**{"model": "model", "version": 2, **wrong})


def test_a_plan_is_told_in_json():
    plan = Plan("model", 2, share=0.5, through=("a", "b"), max_difference=1.0, record="/tmp/kept")
    assert Plan.from_json(plan.to_json()) == plan
    for wrong in (
        {"model": "m"},
        {"model": "m", "version": "2"},
        {"model": "m", "version": 2, "share": []},
        {"model": "m", "version": 2, "share": "most"},
        {"other": 1},
    ):
        with pytest.raises(PlanError):
            Plan.from_json(wrong)
