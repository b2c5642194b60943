"""One level of load on one served model: perf_analyzer makes it, Triton's statistics say where time went."""

import http.client
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from perf.harness.generators.analyzer import Analyzer, AnalyzerRun, NothingAnsweredError

__all__ = [
    "BREAKDOWN",
    "PERCENTILES",
    "WINDOWS",
    "Level",
    "Load",
    "ModelTimes",
    "Target",
    "difference",
    "measure",
    "statistics",
]

# Columns of perf_analyzer's report, in the order in which a request passes; microseconds
BREAKDOWN = (
    "Client Send",
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Client Recv",
)
PERCENTILES = (50, 90, 95, 99)
# of Triton's statistics, the last one is the whole request
PHASES = ("queue", "compute_input", "compute_infer", "compute_output", "success")
WINDOW = re.compile(r"Pass \[\d+\] throughput: ([\d.e+]+) infer/sec\. Avg latency: ([\d.e+]+) usec")
WINDOWS = 3  # that perf_analyzer takes together, once they are close to each other
# So wide that they always are: it holds the largest window against the smallest, and on a busy machine one of
# a fifth of a second may have a hundred times the answers of the next. `_stable` judges them.
ANY_STABILITY = 100_000_000
DOUBLINGS = 3  # of windows within which nothing was answered


@dataclass(frozen=True)
class Load:
    """Either `concurrency` requests always under way, or `request_rate` a second whatever happens.

    distribution: of the times between requests at a rate: "constant", or "poisson" as strangers arrive.
    """

    concurrency: int | None = None
    request_rate: float | None = None
    distribution: str = "constant"

    def arguments(self) -> list[str]:
        """Of perf_analyzer. Raises `ValueError` unless there is either a concurrency or a request rate."""
        if (self.concurrency is None) == (self.request_rate is None):
            raise ValueError("a load has either a concurrency or a request rate")
        if self.concurrency is not None:
            return [f"--concurrency-range={self.concurrency}"]
        return [
            f"--request-rate-range={self.request_rate:g}",
            f"--request-distribution={self.distribution}",
        ]

    def __str__(self) -> str:
        if self.concurrency is not None:
            return f"concurrency {self.concurrency}"
        return f"{self.request_rate:g}/s {self.distribution}"


class ModelTimes(TypedDict):
    """Of one model, from Triton's statistics: counts, and microseconds that a request spent in each phase.

    request_us: altogether.
    """

    inferences: int
    executions: int
    queue_us: float
    input_us: float
    infer_us: float
    output_us: float
    request_us: float


class Level(TypedDict):
    """What one level of load gives.

    throughput    inferences/s
    breakdown_us  perf_analyzer's columns (`BREAKDOWN`; an ensemble lacks some)
    windows       [inferences/s, mean latency in us] of each
    window_s      their length in seconds: what was asked for, or more if nothing was answered within that
    stable        whether the windows lie close to their mean
    models        by name
    """

    concurrency: int | None
    request_rate: float | None
    distribution: str | None
    throughput: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    breakdown_us: dict[str, float]
    windows: list[list[float]]
    window_s: float
    stable: bool
    models: dict[str, ModelTimes]


@dataclass(frozen=True)
class Target:
    """Where the load goes, and what it sends.

    model         its name on the server
    grpc_url      host:port; `http_url` too, which also tells the statistics
    protocol      "grpc" or "http"
    shared_memory "none"; "system" or "cuda": tensors pass in shared memory, of the host or of the GPU
    output_bytes  of one answer in shared memory, per output
    input_data    perf_analyzer's JSON file of inputs (perf/harness/inputs.py); None sends zeros
    arguments     more of perf_analyzer's own, such as those of sequences
    """

    model: str
    grpc_url: str
    http_url: str
    protocol: str = "grpc"
    shared_memory: str = "none"
    output_bytes: int = 1_048_576
    input_data: Path | None = None
    arguments: tuple[str, ...] = ()

    def url(self) -> str:
        """host:port of the protocol that the load takes."""
        return self.grpc_url if self.protocol == "grpc" else self.http_url


def measure(
    analyzer: Analyzer,
    target: Target,
    load: Load,
    *,
    seconds: float = 5.0,
    stability_percent: float = 10.0,
) -> Level:
    """What one level of load gives, over three windows of `seconds` each, longer if none is answered in one.

    stability_percent: how far the windows' throughput and mean latency may lie from their mean before the
    level is called unstable. perf_analyzer itself would drop such a level; ours keeps it, marked.

    Raises `AnalyzerError` if it could not be measured.
    """
    for attempt in range(DOUBLINGS + 1):
        before = statistics(target.http_url)
        try:
            run = _run(analyzer, target, load, seconds)
            break
        except NothingAnsweredError:
            if attempt == DOUBLINGS:
                raise
            seconds *= 2
    row = run.rows[0]
    windows = [[float(rate), float(latency)] for rate, latency in WINDOW.findall(run.printed)]
    models = difference(before, statistics(target.http_url))
    return {
        "concurrency": load.concurrency,
        "request_rate": load.request_rate,
        "distribution": load.distribution if load.request_rate else None,
        "throughput": float(row["Inferences/Second"]),
        "p50_ms": float(row["p50 latency"]) / 1000,
        "p90_ms": float(row["p90 latency"]) / 1000,
        "p95_ms": float(row["p95 latency"]) / 1000,
        "p99_ms": float(row["p99 latency"]) / 1000,
        "breakdown_us": {name: float(row[name]) for name in BREAKDOWN if row.get(name)},
        "windows": windows,
        "window_s": seconds,
        "stable": _stable(windows, stability_percent),
        "models": models,
    }


def _run(analyzer: Analyzer, target: Target, load: Load, seconds: float) -> AnalyzerRun:
    """One run of perf_analyzer, its windows of so many seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        return analyzer.run(
            [
                *("-m", target.model, "-u", target.url(), "-i", target.protocol),
                # fewer threads: what the load generator burns is missing from the server
                *(["--async"] if target.protocol == "grpc" or load.concurrency != 1 else []),
                *load.arguments(),
                f"--measurement-interval={seconds * 1000:.0f}",
                *("-v", f"--stability-percentage={ANY_STABILITY}", f"--max-trials={WINDOWS}"),
                *([f"--input-data={target.input_data}"] if target.input_data else []),
                *_shared_memory(target),
                *target.arguments,
            ],
            Path(scratch) / "report.csv",
            timeout_s=60 + 4 * WINDOWS * seconds,
        )


def _shared_memory(target: Target) -> list[str]:
    if target.shared_memory == "none":
        return []
    return [f"--shared-memory={target.shared_memory}", f"--output-shared-memory-size={target.output_bytes}"]


def _stable(windows: list[list[float]], percent: float) -> bool:
    """Whether each figure of each window lies within `percent` of that figure's mean."""
    return all(
        abs(value / (sum(figures) / len(figures)) - 1) * 100 <= percent
        for figures in zip(*windows, strict=True)
        for value in figures
    )


def statistics(http_url: str) -> dict[str, dict[str, Any]]:
    """Triton's statistics by "model/version"; http_url: host:port."""
    host, _, port = http_url.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("GET", "/v2/models/stats")
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return {f"{entry['name']}/{entry['version']}": entry for entry in answer["model_stats"]}


def difference(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> dict[str, ModelTimes]:
    """What happened between two `statistics`, as `measure` tells it under "models"."""
    models: dict[str, ModelTimes] = {}
    for key, entry in after.items():
        old = before.get(key, {})
        requests = _count(entry, "success") - _count(old, "success")
        if not requests:
            continue
        inferences = entry.get("inference_count", 0) - old.get("inference_count", 0)
        executions = entry.get("execution_count", 0) - old.get("execution_count", 0)
        queue, input_, infer, output, request = (
            (_nanoseconds(entry, name) - _nanoseconds(old, name)) / requests / 1000 for name in PHASES
        )
        models[entry["name"]] = {
            "inferences": inferences,
            "executions": executions,
            "queue_us": queue,
            "input_us": input_,
            "infer_us": infer,
            "output_us": output,
            "request_us": request,
        }
    return models


def _count(entry: Mapping[str, Any], name: str) -> int:
    return int(entry.get("inference_stats", {}).get(name, {}).get("count", 0))


def _nanoseconds(entry: Mapping[str, Any], name: str) -> int:
    return int(entry.get("inference_stats", {}).get(name, {}).get("ns", 0))
