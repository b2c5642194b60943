"""Plans follow from what one replica takes."""

import numpy as np
import pytest

from perf.capacity import planning
from perf.capacity.planning import Assumptions, Capacity, Replica, plan, replica_capacity
from perf.capacity.simulation import Batcher, ExecutionTimes, Observed
from perf.harness.errors import PerfError


def observed(seconds, batch=1, model="m"):
    """A server whose executions of `batch` take these times, and nothing else takes any."""
    times = np.broadcast_to(np.asarray(seconds, float), (max(np.size(seconds), 8),))
    return Observed({model: ExecutionTimes({(batch, 0): np.stack([times, times], 1)})})


@pytest.mark.slow
def test_a_rate_within_the_slo_is_found_and_falls_with_the_slo(monkeypatch):
    monkeypatch.setattr(planning, "REQUESTS", 3000)
    service = np.random.default_rng(0).gamma(16, 0.01 / 16, 2000)
    replica = Replica(1, {"m": Batcher()})
    tight, wide = (replica_capacity(observed(service), replica, slo) for slo in (25, 80))
    assert tight.rate < wide.rate < wide.peak
    assert tight.p99_ms <= 25
    assert tight.utilisation == pytest.approx(tight.rate / tight.peak)
    with pytest.raises(PerfError, match=r"p99 of 5 ms: on an idle replica it is 1\d\.\d ms"):
        replica_capacity(observed(service), replica, 5)
    double = replica_capacity(observed(service), replica.times(2), 25)
    assert double.rate > 2 * tight.rate  # one queue for two


def test_more_requests_never_take_less():
    replica = Replica(2, {"m": Batcher()})
    one = Capacity(150.0, 55.0, 300.0, 0.5, "m", {"m": 0.5})
    rows = [plan(rate, replica, one, 150_000, Assumptions()) for rate in np.geomspace(10, 1e6, 30)]
    for figure in ("replicas", "replicas_n_plus_1", "cores", "gbit", "balancers"):
        values = [getattr(row, figure) for row in rows]
        assert values == sorted(values)
    assert rows[0].breaks_first == "nothing"
    assert rows[-1].breaks_first == "one replica (m)"
    assert rows[-1].broken[1] == "one balancer's network"
    by_network = plan(1e4, replica, one, 1e8, Assumptions(node_gbit=1))
    assert by_network.breaks_first == "one replica's network"
    assert by_network.node_gbit <= 0.7
    assert rows[-1].replicas == 6667  # 1e6 / 150
    with pytest.raises(PerfError, match="above 0"):
        plan(0, replica, one, 150_000, Assumptions())
