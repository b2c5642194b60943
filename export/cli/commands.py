"""`python -m export COMMAND`: a module with `add_arguments(parser)` and `run(options) -> int` for each."""

import argparse
import importlib
from typing import Any

from export.common.exit_codes import until_closed
from export.common.version import add_version

__all__ = ["COMMANDS", "run"]

PROG = "python -m export"
USAGE = f"{PROG} [MODEL ...] [options]\n       {PROG} COMMAND ..."
DEFAULT = "models"  # what a call without a command does
# By name: the module, imported when it is asked for (linting needs no torch), and a line for --help.
COMMANDS = {
    DEFAULT: ("export.cli.models", "export, check and list models: the same as without a command"),
    "savedmodel": (
        "export.cli.savedmodel",
        "export TensorFlow's SavedModels and Keras files (docs/how-to/savedmodels.md)",
    ),
    "from-tfserving": (
        "export.cli.from_tfserving",
        "write configs of TensorFlow Serving's (docs/how-to/savedmodels.md)",
    ),
    "lint": ("export.cli.lint", "look for faults in a model repository, anyone's (docs/reference/lint.md)"),
    "releases": (
        "export.cli.releases",
        "the releases of Triton that all is held to, and what their wheels say (docs/reference/releases.md)",
    ),
    "use": ("export.cli.use", "let a pipeline call another model (docs/how-to/lighter-models.md)"),
    "copies": (
        "export.cli.copies",
        "write what models hold copies of: shared code, labels (docs/reference/export.md)",
    ),
    "sign": (
        "export.cli.sign",
        "sign models, so that servers load them as they are now (docs/how-to/sign.md)",
    ),
    "trt-parse": (
        "export.cli.trt_parse",
        "would TensorRT take the graphs? needs no GPU (docs/reference/tensorrt.md)",
    ),
    "check-batching": (
        "export.cli.check_batching",
        "does a served model answer in a batch as it does alone? (docs/how-to/export.md)",
    ),
}


def run(arguments: list[str]) -> int:
    """Returns the exit code."""
    return until_closed(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    asked = arguments[0] if arguments and arguments[0] in COMMANDS else DEFAULT
    module = importlib.import_module(COMMANDS[asked][0])
    layout: dict[str, Any] = {
        "description": module.DESCRIPTION,
        "epilog": module.EXIT_CODES,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    options = argparse.ArgumentParser(add_help=False)
    if asked == DEFAULT:
        module.add_options(options)
    parser = argparse.ArgumentParser(
        prog=PROG,
        usage=USAGE,
        parents=[options],  # for --help
        **layout,
    )
    add_version(parser)
    commands = parser.add_subparsers(prog=PROG, metavar="COMMAND", title="commands", required=True)
    for name, (_, summary) in COMMANDS.items():
        own: dict[str, Any] = layout if name == asked else {}
        if name == DEFAULT:
            own = {**own, "prog": PROG, "usage": USAGE}
        command = commands.add_parser(name, help=summary, **own)
        if name == asked:
            module.add_arguments(command)
            command.set_defaults(parser=command)
    named = arguments[:1] in ([asked], ["-h"], ["--help"], ["--version"])
    code: int = module.run(parser.parse_args(arguments if named else [DEFAULT, *arguments]))
    return code
