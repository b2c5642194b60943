"""What a strip of `text_stream` costs, early and late in its sequence, and what ended sequences leave behind.

    python -m perf streaming --output perf/results/streaming.json

Serves text_stream alone. First `--lines` sequences of `--strips` strips, one request at a time: the latency
at each position, as the median over all sequences, and the slope of these medians. Then `--sequences` short
ones, many under way at a time, with the private memory of the server's processes on the way.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from numpy.typing import NDArray

from export.sources.samples import line_strips
from perf.harness.commands import add_repository_option, add_result_options, say
from perf.harness.machine import private_bytes_by_program
from perf.harness.raw import RawResult, check_output, model_facts, record, save
from server import TritonServer

MODEL = "text_stream"
WARM_UP_LINES = 3
WARM_UP_SEQUENCES = 1000
SHORT = 3  # strips of each sequence of the second part
# Sequences at a time, as plain requests: many under way on one gRPC stream end Triton 2.51 now and then
# (docs/reference/security.md).
UNDER_WAY = 64
CHECKPOINTS = 10  # measurements of memory
BAR = 40  # characters


def run(arguments: argparse.Namespace) -> int:
    """Measure latency by position, then memory; returns 0."""
    check_output(arguments.output)
    strips = np.stack([strip for (strip,) in line_strips()])
    with (
        tempfile.TemporaryDirectory() as scratch,
        TritonServer(
            arguments.model_repository,
            log=Path(scratch) / "triton.log",
            arguments=["--model-control-mode=explicit", f"--load-model={MODEL}"],
        ) as server,
        grpc.InferenceServerClient(server.grpc_url) as client,
    ):
        latencies = latency_by_position(client, strips, arguments.lines, arguments.strips)
        before = server.statistics(MODEL)
        memory = memory_by_sequences(client, strips, arguments.sequences)
        inferences, executions = (b - a for a, b in zip(before, server.statistics(MODEL), strict=True))
        weights = client.get_model_config(MODEL).config.parameters["weights"].string_value
    report = record(
        "streaming",
        model=model_facts(arguments.model_repository, MODEL),
        weights=weights,
        protocol="grpc",
        lines=arguments.lines,
        latency_us_by_position=latencies,
        percent_per_100_strips=slope(latencies),
        sequences=arguments.sequences,
        strips_per_sequence=SHORT,
        in_flight=UNDER_WAY,
        memory=memory,
        strips_per_execution=inferences / executions,
    )
    print_summary(report)
    if arguments.output:
        save(arguments.output, report)
        say(f"raw results: {arguments.output}")
    return 0


def latency_by_position(
    client: grpc.InferenceServerClient, strips: NDArray[np.uint8], lines: int, length: int
) -> list[float]:
    """Median microseconds of the first strip of a sequence, the second, and so on, one request at a time."""
    inputs = [strip_input(strip) for strip in strips]
    took = np.zeros((lines, length))
    for line in range(-WARM_UP_LINES, lines):
        for position in range(length):
            strip = inputs[(line * 7 + position) % len(inputs)]
            start = time.perf_counter()
            client.infer(
                MODEL,
                [strip],
                sequence_id=f"line {line}",
                sequence_start=position == 0,
                sequence_end=position == length - 1,
            )
            if line >= 0:
                took[line, position] = time.perf_counter() - start
    medians: list[float] = (np.median(took, axis=0) * 1e6).round(1).tolist()
    return medians


def slope(latencies: list[float]) -> float:
    """Growth of latency in percent per 100 strips: least squares, without the first and the last strip."""
    inner = np.array(latencies[1:-1])
    return float(np.polyfit(np.arange(len(inner)), inner, 1)[0] * 100 / inner.mean() * 100)


def memory_by_sequences(
    client: grpc.InferenceServerClient, strips: NDArray[np.uint8], sequences: int
) -> list[dict[str, Any]]:
    """Private bytes by program after so many sequences, all of them ended; the first after a warm-up."""
    inputs = [strip_input(strip) for strip in strips]

    def run_sequence(number: int) -> None:
        for n in range(SHORT):
            client.infer(
                MODEL,
                [inputs[(number + n) % len(inputs)]],
                sequence_id=f"short {number}",
                sequence_start=n == 0,
                sequence_end=n == SHORT - 1,
            )

    report, start = [], 0.0
    steps = [0, *(sequences * n // CHECKPOINTS for n in range(1, CHECKPOINTS + 1))]
    first = -WARM_UP_SEQUENCES
    with ThreadPoolExecutor(UNDER_WAY) as threads:
        for done in steps:
            list(threads.map(run_sequence, range(first, done)))  # raises what one of them raised
            first = done
            start = start or time.perf_counter()
            report.append(
                {
                    "sequences": done,
                    "seconds": round(time.perf_counter() - start, 3),
                    "private_bytes": private_bytes_by_program(os.getpid()),
                }
            )
    return report


def strip_input(strip: NDArray[np.uint8]) -> grpc.InferInput:
    """The input `strip`, UINT8 [1, 32, 32], of a strip [32, 32]."""
    tensor = grpc.InferInput("strip", [1, *strip.shape], "UINT8")
    tensor.set_data_from_numpy(strip[None])
    return tensor


def print_summary(report: RawResult) -> None:
    """For people: microseconds by position, with bars; sequences/s; MiB of each program."""
    latencies = report["latency_us_by_position"]
    positions = len(latencies)
    print(f"{MODEL}, gRPC, one strip at a time: latency by position, medians of {report['lines']} sequences")
    edges = sorted({0, 1, *(positions * n // 12 for n in range(1, 13))})
    scale = BAR / max(latencies)
    for first, end in pairwise(edges):
        median = statistics.median(latencies[first:end])
        span = str(first + 1) if end == first + 1 else f"{first + 1}-{end}"
        print(f"  strip {span:>9}  {median:8.0f} us  {'#' * round(median * scale)}")
    print(f"growth: {report['percent_per_100_strips']:+.2f} % per 100 strips")
    print(
        f"\n{report['sequences']} sequences of {report['strips_per_sequence']} strips, {report['in_flight']} "
        f"strips under way: {report['sequences'] / report['memory'][-1]['seconds']:.0f} sequences/s, "
        f"{report['strips_per_execution']:.1f} strips an execution; private memory, MiB:"
    )
    programs = sorted(report["memory"][0]["private_bytes"])
    print("  sequences" + "".join(f"{program:>30}" for program in programs))
    for row in report["memory"]:
        values = "".join(f"{row['private_bytes'][program] / 2**20:30.1f}" for program in programs)
        print(f"  {row['sequences']:>9}{values}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("--lines", type=int, default=100, help="long sequences (default: %(default)s)")
    parser.add_argument("--strips", type=int, default=200, help="of each of them (default: %(default)s)")
    parser.add_argument("--sequences", type=int, default=20000, help="short ones (default: %(default)s)")
    add_repository_option(parser)
    add_result_options(parser, kept=False, json=False)
