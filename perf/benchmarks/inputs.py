"""The files of inputs that a load sends, for perf_analyzer itself, as in perf/scripts.

    python -m perf inputs efficientnet_lite0 text_stream

What a model gets is told by its inputs: photographs, lines of text, or random values of the right shapes.
"""

import argparse
from pathlib import Path

from perf.harness.commands import add_repository_option
from perf.harness.inputs import write_inputs
from perf.harness.raw import OUT, check_output
from perf.harness.serving import completed_config


def run(arguments: argparse.Namespace) -> int:
    """Write MODEL.json for each model; returns 0. Raises `InputsError` for one that none can be made for."""
    check_output(arguments.output / f"{arguments.model[0]}.json")
    for model in arguments.model:
        config = completed_config(model, arguments.model_repository)
        made = write_inputs(config, arguments.output / f"{model}.json")
        print(f"{made.path}: {made.items} requests, {made.content}")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("model", nargs="+", help="its name in the repository")
    add_repository_option(parser)
    parser.add_argument(
        "--output", type=Path, default=OUT / "inputs", metavar="FOLDER", help="default: %(default)s"
    )
