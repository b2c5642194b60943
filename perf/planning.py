"""How many replicas a rate takes, what passes through the network, and what breaks first.

A replica's rate is found by simulation; the rest is arithmetic on stated assumptions (`Assumptions`).
"""

import math
from dataclasses import asdict, dataclass

from perf.errors import PerfError
from perf.simulation import Batching, Observed, arrivals, simulate

__all__ = ["RATES", "Assumptions", "Capacity", "Plan", "Replica", "plan", "replica_capacity"]

RATES = (100, 1_000, 5_000, 10_000, 100_000, 1_000_000)
REQUESTS = 12_000  # simulated for each p99
WARM_UP = 0.05  # of them, left out
CLOSE = 1.02  # a rate is found when the search's bounds are that close
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
    stations: dict[str, Batching]

    def times(self, factor: int) -> "Replica":
        return Replica(
            self.cores * factor,
            {name: one.with_instances(one.instances * factor) for name, one in self.stations.items()},
        )


@dataclass(frozen=True)
class Capacity:
    """What one replica takes.

    rate        requests a second at which p99 is still within the SLO
    p99_ms      simulated there
    peak        requests a second that it could answer with no regard to latency
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
    """A rate, and what it takes."""

    rate: float
    replicas: int
    replicas_n_plus_1: int
    cores: int
    gbit: float
    node_gbit: float
    balancers: int
    breaks_first: str

    def as_json(self) -> dict:
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
    low, high, best = peak * IDLE, peak * 1.1, idle
    while high / low > CLOSE:
        middle = math.sqrt(low * high)
        result = _steady(observed, replica, middle, distribution)
        served = result.rejected <= REFUSED * (result.rejected + len(result.latencies_s))
        if served and result.percentile_ms(99) <= slo_p99_ms:
            low, best = middle, result
        else:
            high = middle
    busiest = max(best.busy, key=best.busy.get)
    return Capacity(low, best.percentile_ms(99), peak, low / peak, busiest, best.busy)


def peak_rate(observed: Observed, replica: Replica) -> float:
    """Answers a second under closed loads: the most of a few numbers of requests under way."""
    instances = sum(one.instances for one in replica.stations.values())
    rates = []
    for concurrency in (2 * instances, 4 * instances, 8 * instances):
        seconds = 200 * concurrency * _execution_s(observed, replica) / instances
        rates.append(
            simulate(observed, replica.stations, concurrency=concurrency, seconds=seconds).throughput
        )
    return max(rates)


def _execution_s(observed: Observed, replica: Replica) -> float:
    return sum(observed.executions[name].mean(1, 1) for name in replica.stations)


def _steady(observed: Observed, replica: Replica, rate: float, distribution: str):
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
    return Plan(
        rate,
        replicas,
        replicas + 1,
        replicas * replica.cores,
        gbit,
        rate / replicas * gbit_each,
        balancers,
        _breaks_first(rate, replicas, capacity, gbit, by_network, assumed),
    )


def _breaks_first(rate, replicas, capacity, gbit, by_network, assumed) -> str:
    """The limit that lies lowest below the rate: what has to be more than one, or cannot be."""
    limits = {
        (
            f"one replica ({capacity.bottleneck})" if capacity.rate <= by_network else "one replica's network"
        ): min(capacity.rate, by_network),
        "one balancer's network": rate / gbit * assumed.balancer_gbit * assumed.filled,
        "one balancer's requests": assumed.balancer_rate,
        "one cluster's nodes": min(capacity.rate, by_network) * CLUSTER_NODES,
    }
    broken = sorted((limit, name) for name, limit in limits.items() if limit < rate)
    return ", then ".join(name for _, name in broken) or "nothing"
