"""The command line of `python -m export use`."""

import argparse
import dataclasses
import json
from pathlib import Path

from export.common.errors import ExportError
from export.common.exit_codes import exit_code
from export.repository import MODEL_REPOSITORY
from export.repository.configs.composition import Change, use
from export.repository.publish import versions

__all__ = ["DESCRIPTION", "EXIT_CODES", "add_arguments", "run"]


DESCRIPTION = """\
Let a pipeline, such as recognize_objects, call another model: in its config.pbtxt, in each of its
configs/NAME.pbtxt, and in its copy of the other model's labels. Everything else stays as it is written.
Refused, with nothing changed, if the model's tensors are not those of the model that it replaces.
"""
EXIT_CODES = """\
example: python -m export use efficientnet_lite0_int8 --in recognize_objects
A server that runs takes it when it starts anew; one that polls the repository, by itself.
exit codes: 0 the pipeline calls the model; 1 it cannot; 2 wrong usage
"""


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    return exit_code(lambda: _run(options), (ExportError,))


def _run(options: argparse.Namespace) -> int:
    repository = options.model_repository
    changes = use(options.model, options.pipeline, repository, options.instead_of)
    if options.json:
        print(json.dumps([dataclasses.asdict(change) for change in changes], indent=2))
        return 0
    print("\n".join(map(_told, changes)) or f"{options.pipeline} calls {options.model} already")
    model = repository / options.model
    if not any(any(model.glob(f"{version}/*")) for version in versions(model)):
        print(f"note: {options.model} has no version to load yet; export it before you serve")
    return 0


def _told(change: Change) -> str:
    return f"{change.file}: {change.model} instead of {change.instead_of}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("model", metavar="MODEL", help="a model of the repository")
    parser.add_argument(
        "--in", dest="pipeline", required=True, metavar="PIPELINE", help="the model that calls it"
    )
    parser.add_argument(
        "--instead-of", metavar="MODEL", help="what it replaces; needed if several models have its tensors"
    )
    parser.add_argument("--model-repository", type=Path, metavar="FOLDER", default=MODEL_REPOSITORY)
    parser.add_argument("--json", action="store_true", help="print what was changed as JSON")
