"""Levels of load ("run"): what each is called, and the medians of its rounds.

A level is what `perf.harness.load.measure` gives, with the transport it was measured over.
"""

import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from perf.harness.load import PERCENTILES, Load

__all__ = ["batch_sizes", "described", "medians", "series"]

Level = Mapping[str, Any]


def described(level: Level) -> str:
    """ "grpc, concurrency 8"."""
    load = Load(level["concurrency"], level["request_rate"], level["distribution"] or "constant")
    return f"{level['transport']}, {load}"


def series(level: Level) -> str:
    """What is drawn as one line: the transport, at a rate with the distribution of its requests."""
    kind = level["distribution"]
    return f"{level['transport']}, {kind}" if kind else str(level["transport"])


def batch_sizes(level: Level) -> dict[str, float]:
    """Inferences an execution, by model, of those that execute anything (an ensemble does not)."""
    return {
        name: model["inferences"] / model["executions"]
        for name, model in level["models"].items()
        if model["executions"]
    }


def medians(levels: Sequence[Level]) -> list[dict[str, Any]]:
    """One level for each transport and load: of several rounds the middle one, with the medians of all."""
    keyed = sorted(levels, key=lambda level: (series(level), level["concurrency"] or level["request_rate"]))
    found = []
    for _, group in groupby(keyed, key=described):
        rounds = sorted(group, key=lambda level: level["throughput"])
        middle = dict(rounds[len(rounds) // 2])
        for name in ("throughput", *(f"p{p}_ms" for p in PERCENTILES)):
            middle[name] = statistics.median(level[name] for level in rounds)
        middle["stable"] = all(level["stable"] for level in rounds)
        found.append(middle)
    order = list(dict.fromkeys(map(series, levels)))
    return sorted(found, key=lambda level: order.index(series(level)))
