"""Triton's traces: when each request was queued, executed and answered, and with which others.

The format is Triton's own (its documentation, "Trace", mode `triton`, level TIMESTAMPS): a list of entries,
one with the model of a trace, others with its timestamps, ns of the steady clock. Requests of one execution
have the same COMPUTE_START; a batch that is computed piece by piece has an end for each piece.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perf.capacity.simulation import ExecutionTimes, Observed

__all__ = ["Trace", "observe", "read_trace", "trace_arguments"]

MISSED_S = 0.7e-3  # an end that starts nothing for longer, while requests wait, was missed by the batcher
# Longer waits beside a free instance are missed wake-ups as well, which something else ended: a thread that
# the scheduler leaves waiting for a busy core waits for a slice, about 3 ms (Linux, base_slice_ns).
SLICE_S = 4e-3
NEEDED = ("QUEUE_START", "COMPUTE_START", "COMPUTE_END")
MOST_INSTANCES = 8  # instances at work that are told apart

Times = NDArray[np.float64]
Pools = defaultdict[int, list[float]]  # by the number of busy instances


@dataclass
class Trace:
    """One model under one load, times in seconds.

    requests   FP64 [requests, 4], by the time they were queued: start, queued, started, answered
    executions FP64 [executions, 4], by their start: start, answered, end, requests in it
    """

    requests: NDArray[np.float64]
    executions: NDArray[np.float64]


def trace_arguments(file: Path) -> list[str]:
    """Of tritonserver: every request's timestamps, into a file that is written when the server stops."""
    return [
        "--trace-config=mode=triton",
        f"--trace-config=triton,file={file}",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=1",
    ]


def read_trace(file: Path) -> dict[str, Trace]:
    """What a trace file tells, by model; an ensemble executes nothing. Raises `ValueError` if it is empty."""
    models: dict[int, str] = {}
    times: dict[int, dict[str, int]] = defaultdict(dict)
    for entry in json.loads(file.read_text()):
        if "model_name" in entry:
            models[entry["id"]] = entry["model_name"]
        for stamp in entry.get("timestamps", ()):
            times[entry["id"]][stamp["name"]] = stamp["ns"]
    found: dict[str, list[dict[str, int]]] = defaultdict(list)
    for number, stamps in times.items():
        if number in models and all(name in stamps for name in NEEDED):
            found[models[number]].append(stamps)
    if not found:
        raise ValueError(f"{file} holds no complete trace of a request")
    return {model: _trace(stamps) for model, stamps in found.items()}


def _trace(found: list[dict[str, int]]) -> Trace:
    batches = defaultdict(list)
    requests = []
    for stamps in found:
        answered = stamps.get("INFER_RESPONSE_COMPLETE", stamps["COMPUTE_END"])
        queued = stamps["QUEUE_START"]
        requests.append([stamps.get("REQUEST_START", queued), queued, stamps["COMPUTE_START"], answered])
        batches[stamps["COMPUTE_START"]].append((answered, stamps["COMPUTE_END"]))
    executions = []
    for started, batch in batches.items():
        answers, ends = zip(*batch, strict=True)
        executions.append([started, sum(answers) / len(answers), max(ends), len(batch)])
    requests_s = np.array(sorted(requests, key=lambda row: row[1]), float) / 1e9
    executions_s = np.array(sorted(executions), float) / [1e9, 1e9, 1e9, 1]
    return Trace(requests_s, executions_s)


def observe(traces: list[dict[str, Trace]], instances: dict[str, int], fixed_s: float) -> Observed:
    """What the simulation draws from, out of the traces of several loads.

    instances: of each model. fixed_s: of a request, outside of the server (see `Observed`).
    """
    pools: dict[str, defaultdict[tuple[int, int], list[tuple[float, float]]]]
    pools = {model: defaultdict(list) for model in instances}
    wake: Pools = defaultdict(list)
    following: Pools = defaultdict(list)
    missed_end: Pools = defaultdict(list)
    missed_arrival: Pools = defaultdict(list)
    for load in traces:
        everything = np.concatenate([trace.executions for trace in load.values()])
        starts, ends = np.sort(everything[:, 0]), np.sort(everything[:, 2])

        for model, trace in load.items():
            executions, requests = trace.executions, trace.requests
            others = _busy(executions[:, 0], starts, ends)
            for (start, answered, end, size), other in zip(executions, others, strict=True):
                pools[model][int(size), int(other)].append((answered - start, end - start))
            _wakes(
                requests,
                executions,
                _busy(requests[:, 1], starts, ends),
                instances[model],
                wake,
                missed_arrival,
            )
            _nexts(requests, executions, _busy(executions[:, 2], starts, ends), following, missed_end)
    return Observed(
        {
            model: ExecutionTimes({key: np.array(pool) for key, pool in found.items()})
            for model, found in pools.items()
        },
        sum(instances.values()),
        _filled(wake),
        _filled(following),
        _shares(missed_end),
        _shares(missed_arrival),
        fixed_s,
    )


def _busy(times: Times, starts: Times, ends: Times) -> NDArray[np.int64]:
    """Executions under way, those that start or end at that moment left out."""
    under_way = np.searchsorted(starts, times, "left") - np.searchsorted(ends, times, "right")
    return np.clip(under_way, 0, MOST_INSTANCES)


def _wakes(
    requests: Times, executions: Times, busy: NDArray[np.int64], instances: int, wake: Pools, missed: Pools
) -> None:
    """From queued to started, of requests that found a free instance and nobody waiting."""
    own = np.searchsorted(executions[:, 0], requests[:, 1], "left") - np.searchsorted(
        np.sort(executions[:, 2]), requests[:, 1], "right"
    )
    latest = np.concatenate([[0], np.maximum.accumulate(requests[:, 2])[:-1]])
    free = (own < instances) & (latest <= requests[:, 1])
    waited = requests[:, 2] - requests[:, 1]
    for seconds, k in zip(waited[free], busy[free], strict=True):
        missed[int(k)].append(seconds > SLICE_S)
        if seconds <= SLICE_S:
            wake[int(k)].append(seconds)


def _nexts(
    requests: Times, executions: Times, busy: NDArray[np.int64], following: Pools, missed: Pools
) -> None:
    """From the end of an execution while requests wait to the next start."""
    queued, started = requests[:, 1], np.sort(requests[:, 2])
    waiting = np.searchsorted(queued, executions[:, 2]) - np.searchsorted(started, executions[:, 2])
    next_start = np.searchsorted(executions[:, 0], executions[:, 2])
    for end, wait, index, k in zip(executions[:, 2], waiting, next_start, busy, strict=True):
        if wait > 0 and index < len(executions):
            gap = executions[index, 0] - end
            missed[int(k)].append(gap > MISSED_S)
            if gap <= MISSED_S:
                following[int(k)].append(gap)


def _shares(pools: Pools) -> dict[int, float]:
    return {k: float(pool.mean()) for k, pool in _filled(pools).items()}


def _filled(pools: Pools) -> dict[int, NDArray[np.float64]]:
    """A pool for each number of busy instances up to the most that were seen."""
    there = {k: np.array(pool) for k, pool in pools.items() if len(pool) >= 8}
    if not there:
        return {0: np.zeros(1)}
    return {k: there[min(there, key=lambda n: abs(n - k))] for k in range(max(there) + 1)}
