"""What the simulation draws from."""

import json

import numpy as np
import pytest

from perf.capacity.simulation import ExecutionTimes, Observed


def test_sizes_that_were_not_measured_lie_between_those_that_were():
    pools = {(size, 0): np.full((8, 2), seconds) for size, seconds in ((2, 2.0), (4, 3.0))}
    executions, random = ExecutionTimes(pools), np.random.default_rng(0)
    assert executions.draw(3, 0, random) == pytest.approx((2.5, 2.5))
    assert executions.draw(8, 1, random) == pytest.approx((6.0, 6.0))


def test_what_was_observed_survives_its_file():
    times = np.random.default_rng(0).gamma(9, 1e-3, (1000, 2))
    one = Observed(
        {"m": ExecutionTimes({(1, 0): times, (4, 1): times * 3})}, 2, {0: times[:, 0]}, fixed_s=2e-4
    )
    again = Observed.of_json(json.loads(json.dumps(one.as_json())))
    assert again.executions["m"].mean(1, 0) == pytest.approx(one.executions["m"].mean(1, 0), rel=0.01)
    assert again.executions["m"].mean(4, 1) == pytest.approx(one.executions["m"].mean(4, 1), rel=0.01)
    assert np.median(again.wake_s[0]) == pytest.approx(np.median(times[:, 0]), rel=0.01)
    assert (again.instances, again.fixed_s) == (2, pytest.approx(2e-4))
