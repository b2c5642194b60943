"""`python -m perf COMMAND`: a module with `add_arguments(parser)` and `run(arguments) -> int`."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from export.common.errors import ExportError
from export.common.exit_codes import exit_code, until_closed
from export.common.version import add_version
from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import AnalyzerError
from perf.harness.raw import RawError
from server import ServerError

__all__ = ["COMMANDS", "main"]


class Command(NamedTuple):
    """A module with `add_arguments` and `run`, and what it is for, in a line of help."""

    module: str
    summary: str


# Imported only when asked for: some need packages and time to import.
COMMANDS = {
    "all": Command("perf.all", "everything in short, and the report: about a quarter of an hour"),
    "run": Command("perf.benchmarks.run", "load on a served model: levels, transports, real inputs"),
    "inputs": Command(
        "perf.benchmarks.inputs", "the files of inputs that a load sends, for perf_analyzer itself"
    ),
    "report": Command(
        "perf.report", "figures, one page, and the table of docs/why/figures.md from raw results"
    ),
    "waterfall": Command(
        "perf.benchmarks.waterfall",
        "where the time of one request goes, from ONNX Runtime alone to the ensemble",
    ),
    "batching": Command(
        "perf.benchmarks.batching", "what dynamic batching brings: one model with and without it"
    ),
    "cost": Command("perf.benchmarks.cost", "how cost grows with batch size, file size, and width of lines"),
    "compare": Command(
        "perf.peers.compare", "the same jobs behind FastAPI, LitServe, BentoML, MLServer and Ray Serve"
    ),
    "precision": Command(
        "perf.benchmarks.precision", "a lighter sibling (INT8, FP16) against its FP32 model, alone and served"
    ),
    "explanations": Command(
        "perf.benchmarks.explanations", "how far heatmaps can be trusted: deletion, insertion, pointing"
    ),
    "decoders": Command("perf.decoding.decoders", "decoders and resizers of photographs: pixels and time"),
    "throughput": Command(
        "perf.benchmarks.throughput", "served against in-process throughput of one model, side by side"
    ),
    "gateway": Command(
        "perf.benchmarks.gateways.tfserving",
        "what TensorFlow Serving's interfaces add to Triton's own, side by side",
    ),
    "haproxy": Command(
        "perf.benchmarks.gateways.haproxy", "what the gateway adds to a request, and what HAProxy alone does"
    ),
    "tune": Command(
        "perf.tuning.tune", "find the best policy of a model within a latency limit, and write it"
    ),
    "capacity": Command(
        "perf.capacity.capacity",
        "how many replicas a rate takes within a p99, by simulation from measurements",
    ),
    "kills": Command(
        "perf.benchmarks.endurance.kills", "what a killed process costs: of a model, and tritonserver itself"
    ),
    "streaming": Command(
        "perf.benchmarks.endurance.sequences",
        "what a strip of a text stream costs, and the memory of many sequences",
    ),
}
ERRORS = (AnalyzerError, ExportError, PerfError, RawError, ServerError)
EXIT_CODES = "exit codes: 0 done; 1 failed; 2 wrong usage; 130 interrupted"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    return until_closed(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m perf", description="Measure what is served, and decide by it.", epilog=EXIT_CODES
    )
    add_version(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (path, summary) in COMMANDS.items():
        module = importlib.import_module(path) if name in arguments[:1] else None
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__ if module else None,
            epilog=getattr(module, "EXIT_CODES", EXIT_CODES),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if module:
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    return exit_code(lambda: options.run(options), ERRORS)
