"""The command line of `python -m export from-tfserving`."""

import argparse
import dataclasses
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from export.common.errors import ConfigError, ExportError, PublishError
from export.common.exit_codes import exit_code
from export.common.wording import counted
from export.pipelines.onnx_files.names import MODEL_NAME
from export.repository import MODEL_REPOSITORY
from export.repository.publish import CONFIG_FILE, publish
from export.repository.tfserving.schema import BATCHING, MODELS, MONITORING, read
from export.repository.tfserving.translation import (
    Field,
    TranslatedModel,
    batching_fields,
    monitoring_fields,
    translated,
)

__all__ = ["DESCRIPTION", "EXIT_CODES", "add_arguments", "run"]

DESCRIPTION = """\
Write a config.pbtxt for each model of TensorFlow Serving's model config file: versions, batching, queue.
What became of every field is printed, and the commands that publish the models (docs/how-to/savedmodels.md).
"""
EXIT_CODES = """\
example: python -m export from-tfserving models.config batching.config -o models
exit codes: 0 written; 1 a file cannot be read, or a config is there already; 2 wrong usage
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument(
        "models",
        type=Path,
        metavar="MODELS",
        help="what --model_config_file names: model_config_list { ... }",
    )
    parser.add_argument(
        "batching",
        type=Path,
        nargs="?",
        metavar="BATCHING",
        help="what --batching_parameters_file names: max_batch_size { value: 32 } and so on",
    )
    parser.add_argument("--monitoring", type=Path, metavar="FILE", help="what --monitoring_config_file names")
    parser.add_argument(
        "-o",
        "--model-repository",
        type=Path,
        metavar="FOLDER",
        default=MODEL_REPOSITORY,
        help="where the configs go, a folder per model (default: ours)",
    )
    parser.add_argument("--force", action="store_true", help="replace configs that are there already")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    return exit_code(lambda: _run(options), (ExportError,))


def _run(options: argparse.Namespace) -> int:
    repository = options.model_repository
    config = read(options.models, MODELS)
    batching = read(options.batching, BATCHING) if options.batching else None
    shared = batching_fields(batching, options.batching) if options.batching else []
    if options.monitoring:
        shared += monitoring_fields(read(options.monitoring, MONITORING))
    models = translated(config, batching, options.models, repository)
    _check_places(models, repository, options.force)
    for model in models:
        publish(repository / model.name, {CONFIG_FILE: model.text}, None)
    if options.json:
        told = [
            {
                "name": model.name,
                "config": str(repository / model.name / CONFIG_FILE),
                "fields": [dataclasses.asdict(one) for one in model.fields],
                "commands": model.commands,
            }
            for model in models
        ]
        print(json.dumps({"models": told, "shared": [dataclasses.asdict(one) for one in shared]}, indent=2))
        return 0
    for model in models:
        print(f"{model.name}: {repository / model.name / CONFIG_FILE}")
        _print_fields(model.fields)
    if shared:
        print("all models")
        _print_fields(shared)
    print(f"\n{counted(len(models), 'config')} written. Now publish what they are for:")
    print("\n".join(f"  {command}" for model in models for command in model.commands))
    return 0


def _check_places(models: list[TranslatedModel], repository: Path, force: bool) -> None:
    """Before anything is written. Raises an `ExportError`."""
    for model in models:
        if not MODEL_NAME.fullmatch(model.name):
            raise ConfigError(
                f"the model name {model.name!r} becomes a folder: use letters, digits, '_', '.' and '-'"
            )
    there = [model.name for model in models if (repository / model.name / CONFIG_FILE).exists()]
    if there and not force:
        raise PublishError(
            f"{repository} has a {CONFIG_FILE} of {', '.join(there)} already; nothing was written. --force "
            "replaces it, tensors and all, until the model is exported again"
        )


def _print_fields(fields: list[Field]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for one in fields:
        table.add_row(one.name, one.value, one.became)
    Console().print(table)
