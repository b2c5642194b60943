"""How many replicas a rate takes, what passes through the network, and what breaks first.

A replica's rate is found by simulation; the rest is arithmetic on stated assumptions (`Assumptions`).
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from perf.capacity.simulation import Batcher, Observed, SimulatedLoad, arrivals, simulate
from perf.harness.errors import PerfError

__all__ = ["RATES", "Assumptions", "Capacity", "Plan", "Replica", "limits", "plan", "replica_capacity"]

RATES = (100, 1_000, 5_000, 10_000, 100_000, 1_000_000)
REQUESTS = 12_000  # simulated for each p99
WARM_UP = 0.05  # of them, left out
UNDER_WAY = 16  # requests an instance, for the peak: 32 on the two instances that are calibrated
SEARCH_RATIO = 1.02  # a rate is found when the search's bounds are that close
REFUSED = 0.001  # share of requests; more, and a rate is not sustained
IDLE = 0.02  # of the peak: a load at which nothing waits for anything else

# Kubernetes v1.35, "Considerations for large clusters": designed for no more than so many
CLUSTER_NODES = 5_000


@dataclass(frozen=True)
class Assumptions:
    """What is not measured. Set each on the command line.

    node_gbit        network of one replica's machine, Gbit/s
    balancer_gbit    the same of one load balancer, which passes every byte in and out
    balancer_rate    requests a second of one load balancer: a twentieth of the 2.04 million that HAProxy
                     Technologies published for HAProxy 2.3 on 64 cores and a 100 Gbit/s network with tiny
                     answers (2021), because these requests carry images, and TLS is left for it to do
    filled           share of a network that is planned to be used
    """

    node_gbit: float = 10.0
    balancer_gbit: float = 25.0
    balancer_rate: float = 100_000.0
    filled: float = 0.7


@dataclass(frozen=True)
class Replica:
    """One server as calibrated, or a larger one with as many times its instances and cores (an assumption).

    stations  the models on a request's way, and how each batches
    """

    cores: int
    stations: dict[str, Batcher]

    def times(self, factor: int) -> "Replica":
        """One of `factor` times the cores, with as many times the instances of each model."""
        return Replica(
            self.cores * factor,
            {name: one.with_instances(one.instances * factor) for name, one in self.stations.items()},
        )


@dataclass(frozen=True)
class Capacity:
    """What one replica takes.

    rate        requests a second at which p99 is still within the SLO
    p99_ms      simulated there
    peak        requests a second that it answers when there are always more than enough
    utilisation rate / peak: above it, p99 passes the SLO
    bottleneck  the model whose instances are busiest
    busy        {model: share of the time that its instances are taken}, at `rate`
    """

    rate: float
    p99_ms: float
    peak: float
    utilisation: float
    bottleneck: str
    busy: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """A rate, and what it takes. broken: the limits below the rate (`limits`), the lowest first."""

    rate: float
    replicas: int
    replicas_n_plus_1: int
    cores: int
    gbit: float
    node_gbit: float
    balancers: int
    breaks_first: str
    broken: list[str]

    def as_json(self) -> dict[str, Any]:
        """The fields by name, JSON values only."""
        return asdict(self)


def replica_capacity(
    observed: Observed, replica: Replica, slo_p99_ms: float, distribution: str = "poisson"
) -> Capacity:
    """The highest rate with p99 within the SLO, by bisection. Raises `PerfError` if there is none."""
    if slo_p99_ms <= 0:
        raise PerfError(f"an SLO is above 0 ms, not {slo_p99_ms:g}")
    peak = peak_rate(observed, replica)
    idle = _steady(observed, replica, peak * IDLE, distribution)
    if idle.percentile_ms(99) > slo_p99_ms:
        raise PerfError(
            f"no number of replicas reaches a p99 of {slo_p99_ms:g} ms: on an idle replica it is "
            f"{idle.percentile_ms(99):.1f} ms, the time that executions themselves take. Allow more, "
            "or serve a smaller model (`python -m export --help`: --precision)"
        )
    low, high, best = peak * IDLE, peak * 1.3, idle
    while high / low > SEARCH_RATIO:
        middle = math.sqrt(low * high)
        result = _steady(observed, replica, middle, distribution)
        served = result.rejected <= REFUSED * (result.rejected + len(result.latencies_s))
        if served and result.percentile_ms(99) <= slo_p99_ms:
            low, best = middle, result
        else:
            high = middle
    busiest = max(best.busy, key=best.busy.__getitem__)
    return Capacity(low, best.percentile_ms(99), peak, low / peak, busiest, best.busy)


def peak_rate(observed: Observed, replica: Replica) -> float:
    """Answers a second with a queue that is never empty: more, for long, and it only grows."""
    instances = sum(one.instances for one in replica.stations.values())
    concurrency = UNDER_WAY * instances
    seconds = 100 * concurrency * _execution_s(observed, replica) / instances
    return simulate(observed, replica.stations, concurrency=concurrency, seconds=seconds).throughput


def _execution_s(observed: Observed, replica: Replica) -> float:
    return sum(observed.executions[name].mean(1, 1) for name in replica.stations)


def _steady(observed: Observed, replica: Replica, rate: float, distribution: str) -> SimulatedLoad:
    """A long open load, its start left out."""
    result = simulate(observed, replica.stations, arrivals(distribution, rate, REQUESTS, seed=1), seed=1)
    result.latencies_s = result.latencies_s[int(REQUESTS * WARM_UP) :]
    return result


def plan(
    rate: float, replica: Replica, capacity: Capacity, bytes_per_request: float, assumed: Assumptions
) -> Plan:
    """What a rate takes. Raises `PerfError` if it is not above 0.

    bytes_per_request: in and out together.
    """
    if rate <= 0:
        raise PerfError(f"a rate is above 0 requests a second, not {rate:g}")
    gbit_each = bytes_per_request * 8 / 1e9
    by_network = assumed.node_gbit * assumed.filled / gbit_each
    replicas = math.ceil(rate / min(capacity.rate, by_network))
    gbit = rate * gbit_each
    balancers = max(
        math.ceil(gbit / (assumed.balancer_gbit * assumed.filled)), math.ceil(rate / assumed.balancer_rate)
    )
    broken = [name for name, most in limits(capacity, bytes_per_request, assumed).items() if most < rate]
    return Plan(
        rate,
        replicas,
        replicas + 1,
        replicas * replica.cores,
        gbit,
        rate / replicas * gbit_each,
        balancers,
        next(iter(broken), "nothing"),
        broken,
    )


def limits(capacity: Capacity, bytes_per_request: float, assumed: Assumptions) -> dict[str, float]:
    """The rates above which one of something is not enough, or no more can be had; the lowest first."""
    gbit_each = bytes_per_request * 8 / 1e9
    by_network = assumed.node_gbit * assumed.filled / gbit_each
    slower = (
        f"one replica ({capacity.bottleneck})" if capacity.rate <= by_network else "one replica's network"
    )
    found = {
        slower: min(capacity.rate, by_network),
        "one balancer's network": assumed.balancer_gbit * assumed.filled / gbit_each,
        "one balancer's requests": assumed.balancer_rate,
        "one Kubernetes cluster's nodes": min(capacity.rate, by_network) * CLUSTER_NODES,
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))
