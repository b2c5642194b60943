"""Times of arrival."""

import numpy as np
import pytest

from perf.capacity.simulation import DISTRIBUTIONS, arrivals


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_arrivals_come_at_their_rate(distribution):
    times = arrivals(distribution, 200, 100_000, seed=3)
    assert len(times) / times[-1] == pytest.approx(200, rel=0.1)
    assert (np.diff(times) >= 0).all()


def test_bursts_vary_more_than_strangers():
    counts = {d: np.bincount(arrivals(d, 100, 50_000).astype(int)) for d in DISTRIBUTIONS}
    assert counts["constant"].std() < counts["poisson"].std() < counts["bursty"].std()
