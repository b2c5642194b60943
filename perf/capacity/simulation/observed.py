"""What was measured of a served model, for the simulation to draw from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExecutionTimes", "Observed"]

KEPT = 400  # executions of each kind: enough for a p99, few enough for a file that is read
ENOUGH = 8  # executions of a kind, to draw from them


@dataclass
class ExecutionTimes:
    """Executions of one model, by batch size and by how many others (of any model) ran when it started.

    pools: {(batch size, others): FP64 [executions, 2], seconds from the start of the execution to its
    answers (the mean of them), and to the moment when its instance is free again}.
    """

    pools: dict[tuple[int, int], NDArray[np.float64]]

    def __post_init__(self) -> None:
        kept = {key: pool for key, pool in self.pools.items() if len(pool) >= ENOUGH}
        self._pools = kept or {key: pool for key, pool in self.pools.items() if len(pool)}
        if not self._pools:
            raise ValueError("no executions were observed")
        self._sources: dict[tuple[int, int], tuple[NDArray[np.float64], float]] = {}

    def draw(self, batch: int, others: int, random: np.random.Generator) -> tuple[float, float]:
        """Seconds to the answers and to the end of one execution: a measured one.

        A batch size that was not measured takes the nearest one's executions, scaled to its own mean: that
        interpolated between the sizes around it, and proportional to the size beyond them.
        """
        key = batch, others
        if key not in self._sources:
            self._sources[key] = self._source(batch, others)
        pool, scale = self._sources[key]
        answer, end = pool[random.integers(len(pool))]
        return answer * scale, end * scale

    def _source(self, batch: int, others: int) -> tuple[NDArray[np.float64], float]:
        sizes = sorted({size for size, _ in self._pools})
        nearest = min(sizes, key=lambda size: abs(np.log(size / batch)))
        pool = self._with_others(nearest, others)
        mean = self._mean(batch, others, sizes)
        return pool, mean / pool[:, 1].mean()

    def _with_others(self, size: int, others: int) -> NDArray[np.float64]:
        there = [k for n, k in self._pools if n == size]
        return self._pools[size, min(there, key=lambda k: (abs(k - others), -k))]

    def _mean(self, batch: int, others: int, sizes: Sequence[int]) -> float:
        means = [self._with_others(size, others)[:, 1].mean() for size in sizes]
        if batch > sizes[-1]:
            return float(means[-1] * batch / sizes[-1])
        return float(np.interp(batch, sizes, means))

    def mean(self, batch: int, others: int) -> float:
        """Seconds that an instance is taken by a batch, on average."""
        return self._mean(batch, others, sorted({size for size, _ in self._pools}))

    def as_json(self) -> list[dict[str, Any]]:
        """A row for each pool, milliseconds; at most `KEPT` executions, evenly spaced by their length."""
        return [
            {
                "batch": batch,
                "others": others,
                "executions": len(pool),
                "answer_ms": _thinned(pool)[:, 0].round(3).tolist(),
                "end_ms": _thinned(pool)[:, 1].round(3).tolist(),
            }
            for (batch, others), pool in sorted((key, pool * 1e3) for key, pool in self.pools.items())
        ]

    @classmethod
    def of_json(cls, entries: list[dict[str, Any]]) -> "ExecutionTimes":
        """Out of the rows of `as_json`. Raises `ValueError` if there is none."""
        return cls(
            {
                (e["batch"], e["others"]): np.array([e["answer_ms"], e["end_ms"]], float).T / 1e3
                for e in entries
            }
        )


def _thinned(pool: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every so many-eth of the executions in order of their length: the same distribution, fewer values."""
    pool = pool[np.argsort(pool[:, 1])]
    if len(pool) <= KEPT:
        return pool
    kept: NDArray[np.float64] = pool[np.linspace(0, len(pool) - 1, KEPT).round().astype(int)]
    return kept


@dataclass
class Observed:
    """A server as measured.

    executions {model: ExecutionTimes}
    instances  of all these models together
    wake_s     {busy instances: FP64 [n]}: how long a thread of the server takes to get going on a machine on
               which so many instances run, drawn for each step of a request that wakes one
    next_s     the same from the end of an execution to the start of the next, while requests wait
    missed_end {other busy instances: share} of such ends after which a free instance stays idle though
               requests wait, until the next arrival or end wakes the batcher
    missed_arrival the same of arrivals that find a free instance
    fixed_s    of a request, in all the rest: client, network, protocol
    """

    executions: dict[str, ExecutionTimes]
    instances: int = 1
    wake_s: dict[int, NDArray[np.float64]] = field(default_factory=lambda: {0: np.zeros(1)})
    next_s: dict[int, NDArray[np.float64]] = field(default_factory=lambda: {0: np.zeros(1)})
    missed_end: dict[int, float] = field(default_factory=lambda: {0: 0.0})
    missed_arrival: dict[int, float] = field(default_factory=lambda: {0: 0.0})
    fixed_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For raw results: executions in milliseconds, other times in microseconds, at most `KEPT` each."""
        return {
            "executions": {model: one.as_json() for model, one in self.executions.items()},
            "instances": self.instances,
            "wake_us": {str(k): _quantiles(pool * 1e6) for k, pool in self.wake_s.items()},
            "next_us": {str(k): _quantiles(pool * 1e6) for k, pool in self.next_s.items()},
            "missed_end": {str(k): round(share, 4) for k, share in self.missed_end.items()},
            "missed_arrival": {str(k): round(share, 4) for k, share in self.missed_arrival.items()},
            "fixed_us": round(self.fixed_s * 1e6, 1),
        }

    @classmethod
    def of_json(cls, raw: dict[str, Any]) -> "Observed":
        """Out of what `as_json` gives, in seconds again. Raises `KeyError` if something is missing."""
        return cls(
            {model: ExecutionTimes.of_json(entries) for model, entries in raw["executions"].items()},
            raw["instances"],
            {int(k): np.array(pool, float) / 1e6 for k, pool in raw["wake_us"].items()},
            {int(k): np.array(pool, float) / 1e6 for k, pool in raw["next_us"].items()},
            {int(k): share for k, share in raw["missed_end"].items()},
            {int(k): share for k, share in raw["missed_arrival"].items()},
            raw["fixed_us"] / 1e6,
        )


def _quantiles(pool: NDArray[np.float64]) -> list[float]:
    """At most KEPT values of the same distribution, in order."""
    if len(pool) > KEPT:
        pool = np.quantile(pool, (np.arange(KEPT) + 0.5) / KEPT)
    values: list[float] = np.sort(pool).round(1).tolist()
    return values
