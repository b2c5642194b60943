"""Levels of several rounds are told as one."""

import pytest

from perf.summaries.run import medians
from tests.perf.report.made_up import level


@pytest.mark.slow
def test_rounds_are_told_as_medians():
    found = medians([level(throughput=t, stable=t != 300) for t in (100, 300, 120)])
    assert [(one["throughput"], one["stable"]) for one in found] == [(120, False)]
