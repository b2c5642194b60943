"""Dynamic batching on and off ("batching")."""

import statistics

from perf.harness.raw import RawResult

__all__ = ["medians"]


def medians(raw: RawResult) -> tuple[float, float, float]:
    """Inferences a second with and without batching, and the median of the rounds' ratios."""
    on, off = ([float(one[side]["throughput"]) for one in raw["rounds"]] for side in ("with", "without"))
    ratios = [a / b for a, b in zip(on, off, strict=True)]
    return statistics.median(on), statistics.median(off), statistics.median(ratios)
