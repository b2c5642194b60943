"""Where the time of one request goes, from ONNX Runtime alone up to the ensemble that takes JPEG files.

    python -m perf waterfall

One request at a time, and nothing else on the machine: in-process session.run, the same model served over
gRPC with shared memory, gRPC, and HTTP; then the same with JPEG files, where decoding comes before: by the
server's ensemble, and in one process as `configs/cpu.pbtxt` has it, whose "infer" is all it does. Rounds
alternate (A B C A B C); stages are means, as Triton and perf_analyzer tell them.
"""

import argparse
import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from perf.harness.commands import add_repository_option, add_result_options, console, hand_over, say
from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import find_analyzer
from perf.harness.in_process import measure_alone
from perf.harness.inputs import fetch_config, write_inputs
from perf.harness.load import Level, Load, measure
from perf.harness.raw import RawResult, output_path, record
from perf.harness.serving import configured, needed, newest_graph, serving, sessions_and_threads
from perf.summaries.waterfall import FILES, PIXELS, STAGES, medians

__all__ = ["stages"]

DECODER = "image_decoder"
WAYS = ("in-process", "grpc+shm", "grpc", "http")
ONE_PROCESS = ", one process"  # after a way: by configs/cpu.pbtxt


def run(arguments: argparse.Namespace) -> int:
    """Measure every way in turn; returns 0.

    Raises `PerfError` unless --ensemble is made of image_decoder and --model.
    """
    output = output_path(arguments.output, "waterfall")
    analyzer = find_analyzer()
    repository, model, ensemble = arguments.model_repository, arguments.model, arguments.ensemble
    with configured(""):
        steps = needed(ensemble, repository)
    if model not in steps or DECODER not in steps:
        raise PerfError(f"{ensemble} is not an ensemble of {DECODER} and {model}, but of {', '.join(steps)}")
    graph = newest_graph(repository / model)
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        with configured(""):
            served = stack.enter_context(serving(ensemble, repository))
        with configured("cpu"):
            one_process = stack.enter_context(serving(ensemble, repository))
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        config = fetch_config(model, served.http_url)
        _, threads = sessions_and_threads(config)
        pixels = write_inputs(config, Path(scratch) / "pixels.json")
        files = write_inputs(served.config, Path(scratch) / "files.json")

        def alone(number: int, sent: str) -> dict[str, Any]:
            data = pixels if sent == PIXELS else files
            took = measure_alone(
                graph, threads=threads, input_data=data.path, files=sent == FILES, seconds=arguments.seconds
            )
            parts = {name: took[f"{name}_ms"] for name in ("decode", "infer") if took[f"{name}_ms"] > 0.001}
            return {"p50_ms": took["p50_ms"], "p99_ms": took["p99_ms"], "stages_ms": parts}

        def over(way: str, sent: str) -> dict[str, Any]:
            at = one_process if way.endswith(ONE_PROCESS) else served
            name, inputs = (model, pixels) if sent == PIXELS else (ensemble, files)
            target = at.target(inputs, way.removesuffix(ONE_PROCESS), model=name)
            level = measure(analyzer, target, Load(1), seconds=arguments.seconds)
            return {key: level[key] for key in ("p50_ms", "p99_ms", "stable")} | {
                "stages_ms": stages(level, name)
            }

        for number in range(1, arguments.rounds + 1):
            ways = [(PIXELS, way) for way in WAYS] + [(FILES, way) for way in WAYS]
            for sent, way in (*ways, (FILES, "grpc" + ONE_PROCESS), (FILES, "http" + ONE_PROCESS)):
                say(f"round {number} of {arguments.rounds}: {sent}, {way}")
                taken = alone(number, sent) if way == "in-process" else over(way, sent)
                rows.append({"round": number, "sent": sent, "way": way, **taken})
    raw = record(
        "waterfall",
        model=served.facts,
        composing=served.composing,
        pixels_to=model,
        triton=served.version,
        analyzer=analyzer.version(),
        threads=threads,
        window_seconds=arguments.seconds,
        rows=rows,
    )
    hand_over(raw, output, as_json=arguments.json, show=print_table)
    return 0


def stages(level: Level, model: str) -> dict[str, float]:
    """Milliseconds of each stage (of `STAGES`) of a mean request of a level of `perf.harness.load.measure`.

    network is what is left of the latency that the client sees: the way there and back, and the server's own
    reading and writing of requests. Of an ensemble "between models" is what its steps do not account for.
    """
    latency = statistics.mean(latency for _, latency in level["windows"])
    client = sum(level["breakdown_us"].get(name, 0.0) for name in ("Client Send", "Client Recv"))
    whole = level["models"][model]
    steps = {name: one for name, one in level["models"].items() if name != model} or {model: whole}
    between = whole["request_us"] - sum(one["request_us"] for one in steps.values())
    times = {
        "client": client,
        "network": latency - client - whole["request_us"],
        "between models": between if len(steps) > 1 else 0.0,
        "queue": sum(one["queue_us"] for one in steps.values()),
        "input": sum(one["input_us"] for one in steps.values()),
        "decode": sum(one["infer_us"] for name, one in steps.items() if name == DECODER),
        "infer": sum(one["infer_us"] for name, one in steps.items() if name != DECODER),
        "output": sum(one["output_us"] for one in steps.values()),
    }
    return {name: times[name] / 1000 for name in STAGES if times[name] > 0}


def print_table(raw: RawResult) -> None:
    """A row for each way: p50, p99 and the mean of each stage, medians of the rounds, milliseconds."""
    rows = medians(raw["rows"])
    names = [name for name in STAGES if any(name in row["stages_ms"] for row in rows)]
    table = Table("sent", "way", title="one request at a time, milliseconds", title_justify="left")
    for name in ("p50", "p99", *names):
        table.add_column(name, justify="right")
    for row in rows:
        parts = (row["stages_ms"].get(name) for name in names)
        values = (row["p50_ms"], row["p99_ms"], *parts)
        table.add_row(row["sent"], row["way"], *("" if v is None else f"{v:.2f}" for v in values))
    console().print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("--model", default="efficientnet_lite0", help="takes pixels (default: %(default)s)")
    parser.add_argument("--ensemble", default="recognize_objects", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2, help="of a window (default: %(default)s)")
    add_repository_option(parser)
    add_result_options(parser)
