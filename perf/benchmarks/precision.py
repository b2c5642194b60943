"""A lighter sibling against its FP32 model: in one process on one thread, and served.

    python -m perf precision efficientnet_lite0 int8 --output perf/results/precision.json

Alternates rounds of both. In the process batches go back to back on one thread; served, both models are in
one server and perf_analyzer asks one after the other, over gRPC, with real inputs. Prints medians and the
ratios of the pairs.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from perf.harness.commands import add_result_options, say
from perf.harness.generators.analyzer import find_analyzer
from perf.harness.in_process import throughput
from perf.harness.inputs import REPOSITORY, write_inputs
from perf.harness.load import Level, Load, measure
from perf.harness.raw import check_output, model_facts, record, save
from perf.harness.serving import newest_graph, serving

BATCH_SIZES = (1, 8)


def run(arguments: argparse.Namespace) -> int:
    """Measure both alone, then served; returns 0. Raises `PerfError` for a model without a graph."""
    check_output(arguments.output)
    models = (arguments.model, f"{arguments.model}_{arguments.precision}")

    alone = {
        batch: [
            [throughput(newest_graph(REPOSITORY / model), 1, 1, batch, arguments.seconds) for model in models]
            for _ in range(arguments.rounds)
        ]
        for batch in BATCH_SIZES
    }
    raw = record(
        "precision",
        models=[model_facts(REPOSITORY, model) for model in models],
        in_process=alone,
        concurrency=arguments.concurrency,
        served=_served(models, arguments),
    )
    for batch, rounds in alone.items():
        print(f"in one process, one thread, batch {batch}: {_summary(rounds)}")
    rates = [[level["throughput"] for level in levels] for levels in raw["served"]]
    print(f"served over gRPC, concurrency {arguments.concurrency}: {_summary(rates)}")
    if arguments.output:
        save(arguments.output, raw)
    return 0


def _served(models: tuple[str, str], arguments: argparse.Namespace) -> list[list[Level]]:
    """Of each round the levels of both models, as `perf.harness.load.measure` gives them."""
    analyzer = find_analyzer()
    with tempfile.TemporaryDirectory() as scratch, serving(models[0], also=models[1:]) as served:
        inputs = write_inputs(served.config, Path(scratch) / "inputs.json")
        levels = []
        for number in range(arguments.rounds):
            say(f"served, round {number + 1} of {arguments.rounds}")
            levels.append(
                [
                    measure(
                        analyzer,
                        served.target(inputs, model=model),
                        Load(arguments.concurrency),
                        seconds=arguments.seconds,
                    )
                    for model in models
                ]
            )
    return levels


def _summary(rounds: list[list[float]]) -> str:
    """`rounds` holds items per second of FP32 and of the lighter model."""
    fp32, lighter = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    ratios = [ours / theirs for theirs, ours in rounds]
    return (
        f"{fp32:.1f} and {lighter:.1f} items/s, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("model", nargs="?", default="efficientnet_lite0", help="default: %(default)s")
    parser.add_argument(
        "precision", nargs="?", choices=("int8", "fp16"), default="int8", help="default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a measurement (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=8, help="served (default: %(default)s)")
    add_result_options(parser, kept=False, json=False)
