"""The commands of `python -m export`, each with a command line of its own; exporting is what is left."""

import importlib

__all__ = ["COMMANDS", "run"]

# By name: the module whose `main` it is, imported when it is asked for (linting needs no torch), and a line
# for --help.
COMMANDS = {
    "lint": ("export.lint.cli", "look for faults in a model repository, anyone's (docs/lint.md)"),
    "copies": ("export.copies_cli", "write what models hold copies of: shared code, labels (docs/export.md)"),
    "use": ("export.composition_cli", "let a pipeline call another model (docs/export.md)"),
    "check-batching": (
        "export.serving.cli",
        "does a served model answer in a batch as it does alone? (docs/export.md)",
    ),
}


def run(arguments: list[str]) -> int:
    """Returns the exit code."""
    if arguments[:1] and arguments[0] in COMMANDS:
        return importlib.import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])
    return importlib.import_module("export.cli").main(arguments)
