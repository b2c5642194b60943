"""How much of ONNX Runtime's own speed is left when a model is served over gRPC.

    python -m perf throughput efficientnet_lite0

Alternates rounds of (A) in-process ONNX Runtime at its best batch size, with as many sessions and threads as
the model's config.pbtxt gives the server, and (B) the served model under perf_analyzer, with the pixels of
real photographs. Prints medians, the ratio B / A of each pair, and where the rest of the time goes; writes
the raw results with the machine and the versions.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from perf.harness.commands import add_result_options, say
from perf.harness.generators.analyzer import Analyzer, find_analyzer
from perf.harness.in_process import measure_alone
from perf.harness.inputs import REPOSITORY, write_inputs
from perf.harness.load import BREAKDOWN, Load, Target, measure
from perf.harness.machine import cpu_seconds_by_program, describe, read_gpu_metrics
from perf.harness.raw import RawResult, check_output, model_facts, record, save
from perf.harness.serving import completed_config, newest_graph, sessions_and_threads
from perf.summaries.throughput import ratios
from server import TritonServer

BATCH_SIZES = (1, 2, 4, 8, 16, 32)


def run(arguments: argparse.Namespace) -> int:
    """Measure both sides in turn; returns 0. Raises `PerfError` for a model without a graph."""
    check_output(arguments.output)
    graph = newest_graph(REPOSITORY / arguments.model)
    config = completed_config(arguments.model)
    sessions, threads = sessions_and_threads(config)
    analyzer = find_analyzer()
    say(f"{describe()['cpu']}, {os.cpu_count()} cores; {analyzer.binary}")
    say(f"{graph}: {sessions} session(s), threads of each: {threads or 'one per core'}")

    by_batch = {batch: alone(graph, sessions, threads, batch, arguments.seconds / 2) for batch in BATCH_SIZES}
    batch = max(by_batch, key=by_batch.__getitem__)
    say("in-process by batch size: " + ", ".join(f"{b}: {rate:.0f}/s" for b, rate in by_batch.items()))

    rounds = []
    with tempfile.TemporaryDirectory() as scratch:
        data = write_inputs(config, Path(scratch) / "input.json").path
        for number in range(1, arguments.rounds + 1):
            limit = alone(graph, sessions, threads, batch, arguments.seconds)
            served = serve_and_measure(analyzer, arguments, data, Path(scratch))
            rounds.append({"in_process": limit, **served})
            rate = served["throughput"]
            say(f"round {number}: in-process {limit:.0f}/s, served {rate:.0f}/s, ratio {rate / limit:.3f}")
    report = record(
        "throughput",
        model=model_facts(REPOSITORY, arguments.model),
        protocol="grpc",
        shared_memory=arguments.shared_memory,
        concurrency=arguments.concurrency,
        sessions=sessions,
        threads=threads,
        in_process_by_batch=by_batch,
        in_process_batch=batch,
        rounds=rounds,
    )
    print_summary(report)
    if arguments.output:
        save(arguments.output, report)
        say(f"raw results: {arguments.output}")
    return 0


def alone(graph: Path, sessions: int, threads: int, batch: int, seconds: float) -> float:
    """Items per second of ONNX Runtime in a fresh process."""
    told = measure_alone(graph, sessions=sessions, threads=threads, batch=batch, seconds=seconds)
    return float(told["items_per_second"])


def serve_and_measure(
    analyzer: Analyzer, arguments: argparse.Namespace, data: Path, scratch: Path
) -> dict[str, Any]:
    """One level of the model on a server of its own, as `perf.harness.load.measure` gives it.

    Beside that cores_busy, {program: cores}, and gpus, {UUID: {metric: value}} as Triton's metrics tell it.
    """
    with TritonServer(
        REPOSITORY,
        log=scratch / "triton.log",
        arguments=["--model-control-mode=explicit", f"--load-model={arguments.model}"],
    ) as server:
        target = Target(
            arguments.model,
            server.grpc_url,
            server.http_url,
            shared_memory="system" if arguments.shared_memory else "none",
            input_data=data,
        )
        before, start = cpu_seconds_by_program(os.getpid()), time.perf_counter()
        level = measure(analyzer, target, Load(arguments.concurrency), seconds=arguments.seconds)
        elapsed, after = time.perf_counter() - start, cpu_seconds_by_program(os.getpid())
        gpus = read_gpu_metrics(server.metrics_url)  # at most --metrics-interval-ms old: still of the load
    busy = {program: (after[program] - before.get(program, 0.0)) / elapsed for program in after}
    return {**level, "cores_busy": busy, "gpus": gpus}


def print_summary(report: RawResult) -> None:
    """For people, medians of rounds: inferences/s, ratio, milliseconds, microseconds by stage, cores."""
    rounds = report["rounds"]

    def median(values: Iterable[float]) -> float:
        return statistics.median(list(values))

    found = ratios(report)
    print(
        f"\n{report['model']['name']} over gRPC, concurrency {report['concurrency']}, "
        f"{len(rounds)} rounds, medians"
    )
    print(
        f"  in-process (batch {report['in_process_batch']})  {median(r['in_process'] for r in rounds):8.1f}/s"
    )
    print(f"  served                 {median(r['throughput'] for r in rounds):8.1f}/s")
    print(f"  ratio                  {median(found):8.3f}   ({min(found):.3f} to {max(found):.3f})")
    p50, p99 = median(r["p50_ms"] for r in rounds), median(r["p99_ms"] for r in rounds)
    print(f"  latency p50, p99       {p50:8.1f} ms, {p99:.1f} ms")
    print("where a request's time goes, microseconds:")
    for name in BREAKDOWN:
        print(f"  {name:<26}{median(r['breakdown_us'][name] for r in rounds):8.0f}")
    print("cores busy, start of the load included:")
    for program in sorted(rounds[0]["cores_busy"]):
        print(f"  {program:<26}{median(r['cores_busy'].get(program, 0.0) for r in rounds):8.2f}")
    for uuid, metrics in sorted(rounds[0]["gpus"].items()):
        print(f"{uuid}, as Triton's metrics tell it:")
        for name in sorted(metrics):
            print(f"  {name:<32}{median(r['gpus'][uuid][name] for r in rounds):14.6g}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("model", nargs="?", default="efficientnet_lite0")
    parser.add_argument("--rounds", type=int, default=5, help="of A and B each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--shared-memory", action="store_true", help="send the tensors in shared memory")
    add_result_options(parser, kept=False, json=False)
