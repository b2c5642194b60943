"""Stages of one request ("waterfall"): their order, and the medians of the rounds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["FILES", "PIXELS", "STAGES", "medians"]

PIXELS, FILES = "pixels", "files"  # what is sent
# In the order in which a request passes; "between models" is the ensemble's own, `decode` another model's
STAGES = ("client", "network", "between models", "queue", "input", "decode", "infer", "output")


def medians(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for what is sent which way: the median of its rounds, stage by stage."""
    found = []
    for sent, way in dict.fromkeys((row["sent"], row["way"]) for row in rows):
        group = [row for row in rows if (row["sent"], row["way"]) == (sent, way)]
        parts = {
            name: statistics.median(row["stages_ms"].get(name, 0.0) for row in group)
            for name in STAGES
            if any(name in row["stages_ms"] for row in group)
        }
        latency = {key: statistics.median(row[key] for row in group) for key in ("p50_ms", "p99_ms")}
        found.append({"sent": sent, "way": way, **latency, "stages_ms": parts})
    return found
