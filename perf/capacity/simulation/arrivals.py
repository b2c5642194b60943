"""When requests arrive: as strangers send them (Poisson), evenly, or in bursts."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["DISTRIBUTIONS", "arrivals"]

# "bursty": a Poisson process whose rate switches between twice and a half of the mean (MMPP(2)). It spends
# a third of the time in bursts, so that the mean holds: 2 x 1/3 + 0.5 x 2/3 = 1.
BURST_RATE, CALM_RATE = 2.0, 0.5
BURST_S, CALM_S = 1.0, 2.0  # mean lengths, exponential
DISTRIBUTIONS = ("poisson", "constant", "bursty")


def arrivals(distribution: str, rate: float, count: int, seed: int = 0) -> NDArray[np.float64]:
    """Times of `count` arrivals at `rate` a second, FP64 [count], in seconds from 0. Raises `ValueError`."""
    if rate <= 0:
        raise ValueError(f"a rate is above 0 requests a second, not {rate:g}")
    random = np.random.default_rng(seed)
    if distribution == "constant":
        return np.arange(1, count + 1) / rate
    if distribution == "poisson":
        return np.cumsum(random.exponential(1 / rate, count))
    if distribution == "bursty":
        return _bursty(rate, count, random)
    raise ValueError(f"arrivals are {', '.join(DISTRIBUTIONS)}, not {distribution!r}")


def _bursty(rate: float, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A unit-rate Poisson process with its clock run faster in bursts, slower between."""
    work = np.cumsum(random.exponential(1, count))  # at the rate's integral over time
    phases = int(work[-1] / rate / (BURST_S + CALM_S) * 3) + 16
    lengths = np.stack([random.exponential(CALM_S, phases), random.exponential(BURST_S, phases)], 1).ravel()
    rates = np.tile([CALM_RATE * rate, BURST_RATE * rate], phases)
    done = np.concatenate([[0], np.cumsum(lengths * rates)])
    return np.interp(work, done, np.concatenate([[0], np.cumsum(lengths)]))
