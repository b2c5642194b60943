"""Take what the simulation draws from, by measurement, and check what it predicts against other loads.

Calibration: closed loads (a number of requests always under way), which give the large batches, and two
Poisson loads at a quarter and at 55 % of what the server answers with 32 under way, all with Triton's traces.
Checks: Poisson loads at 40, 65 and 85 % of that, without traces, on servers of their own. perf_analyzer sends
at times that we make (its own schedule has one fixed seed and repeats itself); the simulation is given the
same times. Rounds of calibration and checks alternate, so that both see the same machine.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perf.capacity.simulation import Batcher, Observed, arrivals, simulate
from perf.capacity.traces import Trace, observe, read_trace, trace_arguments
from perf.harness.commands import say
from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import Analyzer, AnalyzerError, find_analyzer
from perf.harness.inputs import Inputs, read_config, steps
from perf.harness.load import WINDOWS, Load, Target, measure
from perf.harness.machine import others_cpu_seconds
from perf.harness.raw import RawResult, model_facts, record
from perf.harness.serving import completed_config, needed
from server import TritonServer

__all__ = ["CHECKED", "Arrivals", "batchings", "calibrate", "compare"]

PHOTOGRAPH_MODELS = ("recognize_objects", "efficientnet_lite0")  # one takes files, the other one pixels
CLOSED = (1, 4, 8, 16, 32)
OPEN = (0.25, 0.55)  # of what the last of them answers: more than that, for long, and the queue only grows
CHECKED = (0.40, 0.65, 0.85)  # of the same; never calibrated on, like the next
CHECKED_CLOSED = 12
CLOSED_WINDOW_S, OPEN_WINDOW_S = 1.0, 2.5
REQUESTS = 2000  # a checked load has at least so many, for its p99
OTHERS_SHARE = 0.1  # of the cores: a load beside which other programs took more is measured again
ATTEMPTS = 3  # a server that traces has been seen to end, and perf_analyzer to lose a tensor
WINDOW_STRETCH = 1.2  # perf_analyzer's windows are that much longer than asked for
CLOSED_SIMULATED_S = 5.0
SIMULATIONS = 9  # of each check, with other executions drawn; their median is the prediction


@dataclass(frozen=True)
class Arrivals(Load):
    """Requests at the times of a file of intervals, whole microseconds, one per line."""

    intervals: Path | None = None

    def arguments(self) -> list[str]:
        """The file of intervals, in place of a rate."""
        return [f"--request-intervals={self.intervals}"]

    @classmethod
    def poisson(
        cls, rate: float, seconds: float, seed: int, folder: Path
    ) -> "tuple[Arrivals, NDArray[np.float64]]":
        """A load of so many seconds, and its times, FP64 [requests] in seconds."""
        times = arrivals("poisson", rate, int(rate * seconds * 1.3) + 50, seed)
        gaps = np.diff(times, prepend=0.0) * 1e6
        whole = np.maximum(gaps.round().astype(int), 1)
        path = folder / f"intervals-{rate:.3f}-{seed}.txt"
        path.write_text("".join(f"{gap}\n" for gap in whole))
        return cls(request_rate=rate, distribution="poisson", intervals=path), np.cumsum(whole) / 1e6


def batchings(model: str, repository: Path) -> dict[str, Batcher]:
    """What batches and runs on the way through a model: itself, or the steps of an ensemble, in their order.

    Raises `PerfError` for a model that the simulation has no form for: sequences, pipelines that call models.
    """
    config = read_config(model, repository)
    ensemble = [step.model_name for step in config.ensemble_scheduling.step]
    if not ensemble and "cnn" not in config.parameters and len(needed(model, repository)) > 1:
        raise PerfError(
            f"{model} calls other models from its own code, which the simulation does not know; plan for "
            f"{', '.join(needed(model, repository)[1:])} and for the time {model} itself takes"
        )
    try:
        return {name: Batcher.of_config(completed_config(name, repository)) for name in ensemble or [model]}
    except ValueError as error:
        raise PerfError(str(error)) from None


class Calibrator:
    """Measures one model; what it takes is collected in `traces` and `levels`."""

    def __init__(self, model: str, repository: Path, folder: Path):
        self.model, self.repository, self.folder = model, repository, folder
        self.analyzer: Analyzer = find_analyzer()
        self.batchings = batchings(model, repository)
        self.inputs, self.bytes = one_shape(model, repository, folder / "inputs.json")
        self.traces: list[dict[str, Trace]] = []
        self.levels: list[dict[str, Any]] = []

    def traced(self, load: Load, window_s: float) -> dict[str, Any]:
        """One load on a server of its own that traces."""
        for attempt in range(1, ATTEMPTS + 1):
            file = self.folder / f"trace-{len(self.levels)}-{attempt}.json"
            try:
                with self.server(trace_arguments(file)) as server:
                    level = self.measured(server, load, window_s)
                trace = read_trace(file)
                if not disturbed(level) or attempt == ATTEMPTS:
                    self.traces.append(trace)
                    break
                say(f"  {load}: other programs took {level['others_cores']:.2f} cores; again")
            except (AnalyzerError, OSError, ValueError) as error:
                say(f"  attempt {attempt} of {ATTEMPTS} failed: {str(error).strip().splitlines()[-1]}")
                if attempt == ATTEMPTS:
                    raise PerfError(f"{load} could not be traced: {error}") from None
        client_s = statistics.mean(latency for _, latency in level["windows"]) / 1e6
        inside = [trace.requests for trace in self.traces[-1].values()]
        first, last = min(r[:, 0].mean() for r in inside), max(r[:, 3].mean() for r in inside)
        level["outside_s"] = client_s - (last - first)
        self.levels.append(level)
        return level

    def measured(self, server: TritonServer, load: Load, window_s: float) -> dict[str, Any]:
        """One level, and how many cores other programs took meanwhile."""
        before, start = others_cpu_seconds(), time.monotonic()
        target = Target(self.model, server.grpc_url, server.http_url, input_data=self.inputs.path)
        level = measure(self.analyzer, target, load, seconds=window_s)
        others = (others_cpu_seconds() - before) / (time.monotonic() - start)
        return {**level, "others_cores": round(others, 3)}

    @contextmanager
    def server(self, more: list[str] | None = None) -> Iterator[TritonServer]:
        """A server of its own, with the model and what it needs, and `more` arguments of tritonserver."""
        loads = [f"--load-model={name}" for name in needed(self.model, self.repository)]
        arguments = ["--model-control-mode=explicit", *loads, *(more or [])]
        with TritonServer(self.repository, log=self.folder / "triton.log", arguments=arguments) as server:
            yield server

    def round(self, number: int, peak: float | None) -> float:
        """All loads of the calibration, once; the peak of the first round."""
        for concurrency in CLOSED:
            level = self.traced(Load(concurrency), CLOSED_WINDOW_S)
            say(f"  concurrency {concurrency}: {level['throughput']:.1f}/s, p99 {level['p99_ms']:.1f} ms")
        peak = peak or self.levels[-1]["throughput"]
        for share in OPEN:
            load, _ = Arrivals.poisson(peak * share, 4 * OPEN_WINDOW_S, 100 * number, self.folder)
            level = self.traced(load, OPEN_WINDOW_S)
            say(f"  Poisson, {peak * share:.1f}/s: p99 {level['p99_ms']:.1f} ms")
        return peak

    def checks(self, number: int, peak: float) -> list[dict[str, Any]]:
        """Each checked load once, in turn from the lowest and from the highest."""
        found = []
        with self.server() as server:
            level = self.measured(server, Load(CHECKED_CLOSED), CLOSED_WINDOW_S)
            say(f"  check, concurrency {CHECKED_CLOSED}: {level['throughput']:.1f}/s")
            found.append({"round": number, "share": None, **level})
            for share in CHECKED if number % 2 else CHECKED[::-1]:
                rate, seed = round(peak * share, 3), 1000 * number + int(100 * share)
                window_s = max(2.0, REQUESTS / rate / WINDOWS / WINDOW_STRETCH)
                load, _ = Arrivals.poisson(rate, WINDOWS * window_s * WINDOW_STRETCH, seed, self.folder)
                for _ in range(ATTEMPTS):
                    level = self.measured(server, load, window_s)
                    if not disturbed(level):
                        break
                say(f"  check, {share:.0%} of the peak, {rate:.1f}/s: p99 {level['p99_ms']:.1f} ms")
                seconds = WINDOWS * window_s * WINDOW_STRETCH
                found.append({"round": number, "share": share, "seed": seed, "seconds": seconds, **level})
        return found

    def observed(self) -> Observed:
        """What the simulation draws from, out of all traces so far: one `round` or more.

        The time outside of the server is the median over the open loads, without the waking of two threads.
        """
        instances = {name: batching.instances for name, batching in self.batchings.items()}
        observed = observe(self.traces, instances, 0.0)
        outside = [level["outside_s"] for level in self.levels if level["request_rate"]]
        wakes = 2 * float(np.mean(observed.wake_s[0]))
        observed.fixed_s = max(statistics.median(outside) - wakes, 0.0)
        return observed


def calibrate(model: str, repository: Path, *, rounds: int = 2, check: bool = False) -> RawResult:
    """The raw result ("capacity"): what was observed, in which loads, and the checks."""
    with tempfile.TemporaryDirectory(prefix="triton-vision-capacity-") as scratch:
        one = Calibrator(model, repository, Path(scratch))
        peak, checked = None, []
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}: calibration")
            peak = one.round(number, peak)
            if check:
                checked += one.checks(number, peak)
        observed = one.observed()
    raw = record(
        "capacity",
        model=model_facts(repository, model),
        composing=[model_facts(repository, name) for name in one.batchings if name != model],
        inputs=one.inputs.facts(),
        bytes=one.bytes,
        peak=peak,
        rounds=rounds,
        calibration=one.levels,
        checks=checked,
        observed=observed.as_json(),
    )
    raw.content["comparison"] = compare(raw, one.batchings) if check else []
    return raw


def disturbed(level: dict[str, Any]) -> bool:
    """Whether other programs took more than a tenth of the cores while a level was measured."""
    return bool(level["others_cores"] > OTHERS_SHARE * len(os.sched_getaffinity(0)))


def compare(raw: RawResult, stations: dict[str, Batcher]) -> list[dict[str, Any]]:
    """Predicted against measured, for each checked load: medians over the rounds, and the errors, percent.

    Only `raw["observed"]` and the times of arrival go into the prediction, no result of a check.
    """
    observed = Observed.of_json(raw["observed"])
    found = []
    loads = {(check["share"], check["concurrency"], check["request_rate"]) for check in raw["checks"]}
    for share, concurrency, rate in sorted(loads, key=lambda load: (load[0] is None, load)):
        checks = [c for c in raw["checks"] if (c["concurrency"], c["request_rate"]) == (concurrency, rate)]
        predicted = [predict(observed, stations, check) for check in checks]
        row = {"share": share, "rate": rate, "concurrency": concurrency, "rounds": len(checks)}
        for figure in ("throughput", "p50_ms", "p99_ms"):
            measured = statistics.median(check[figure] for check in checks)
            told = statistics.median(one[figure] for one in predicted)
            row[figure] = {
                "measured": round(measured, 3),
                "measured_spread": [
                    round(min(check[figure] for check in checks), 3),
                    round(max(check[figure] for check in checks), 3),
                ],
                "predicted": round(told, 3),
                "error_percent": round((told / measured - 1) * 100, 1),
            }
        found.append(row)
    return found


def predict(observed: Observed, stations: dict[str, Batcher], check: dict[str, Any]) -> dict[str, float]:
    """Of one checked load: its own times of arrival, simulated several times; medians."""
    if check["concurrency"]:
        load = {"concurrency": check["concurrency"], "seconds": CLOSED_SIMULATED_S}
    else:
        rate, seconds = check["request_rate"], check["seconds"]
        times = arrivals("poisson", rate, int(rate * seconds * 1.3) + 50, check["seed"])
        load = {"arrivals_s": times[times < seconds]}
    results = [simulate(observed, stations, **load, seed=seed) for seed in range(SIMULATIONS)]
    return {
        "throughput": statistics.median(result.throughput for result in results),
        **{f"p{p}_ms": statistics.median(r.percentile_ms(p) for r in results) for p in (50, 99)},
    }


def one_shape(model: str, repository: Path, path: Path) -> tuple[Inputs, dict[str, Any]]:
    """Inputs of the most frequent shape, since only equal shapes share a batch, and bytes on the network.

    The bytes: of an answer's tensors, and of a request's, by the form in which it is sent; of photographs
    both as files and as pixels. Raises `PerfError` for sequences.
    """
    config = completed_config(model, repository)
    content, real, made = steps(config)
    if not made or isinstance(made[0], list):
        raise PerfError(f"{model} takes sequences; the simulation is of single requests")
    shapes = [json.dumps({name: tensor["shape"] for name, tensor in step.items()}) for step in made]
    kept = [step for step, shape in zip(made, shapes, strict=True) if shape == statistics.mode(shapes)]
    if len(kept) < len(made):
        content += f"; of these only shapes {statistics.mode(shapes)}"
    path.write_text(json.dumps({"data": kept}))
    requests = {content: mean_bytes(kept)}
    if "photographs" in content:
        for other in PHOTOGRAPH_MODELS:
            form, _, sent = steps(read_config(other, repository))
            requests.setdefault(form, mean_bytes(sent))
    sizes = [4 * int(np.prod([dim for dim in output.dims if dim > 0])) for output in config.output]
    return Inputs(path, content, real, len(kept)), {"request": requests, "answer": sum(sizes)}


def mean_bytes(made: list[dict[str, Any]]) -> int:
    """Of the steps of perf_analyzer's file: bytes of all tensors of one, base64 undone."""
    return round(
        statistics.mean(sum(len(t["content"]["b64"]) * 3 / 4 for t in step.values()) for step in made)
    )
