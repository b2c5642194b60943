"""Several ways to one server, asked in short turns: what a machine does meanwhile, it does to all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypedDict

__all__ = ["Turns", "in_turns"]

IN_TURN = 10  # requests of one way, before the next: what serves has warm caches
WARM_UP = 20


class Turns(TypedDict):
    """Of one way. p50_ms: as the client sees it; cpu_us: for a request, of the process that stands there."""

    p50_ms: float
    cpu_us: float


def in_turns(
    ways: Mapping[str, Callable[[], object]], cpu_s: Mapping[str, Callable[[], float]], many: int
) -> dict[str, Turns]:
    """Ask `many` times by each way, one request at a time, ten of each in turn.

    ways: functions that ask once. cpu_s: what a process of the way has used by now; without it 0.
    """
    latencies: dict[str, list[float]] = {name: [] for name in ways}
    for ask in ways.values():
        for _ in range(WARM_UP):
            ask()
    before = {name: used() for name, used in cpu_s.items()}
    for _ in range(max(1, many // IN_TURN)):
        for name, ask in ways.items():
            for _ in range(IN_TURN):
                began = time.perf_counter()
                ask()
                latencies[name].append(1000 * (time.perf_counter() - began))
    used = {name: now() - before[name] for name, now in cpu_s.items()}
    return {
        name: {"p50_ms": statistics.median(took), "cpu_us": 1e6 * used.get(name, 0.0) / len(took)}
        for name, took in latencies.items()
    }
