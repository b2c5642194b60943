"""The command line of `python -m export copies`."""

import argparse
import json
import os
from pathlib import Path

from export.common.errors import ExportError
from export.common.exit_codes import exit_code
from export.repository import MODEL_REPOSITORY
from export.repository.copies import models_with_copies, write_copies

__all__ = ["DESCRIPTION", "EXIT_CODES", "add_arguments", "run"]


DESCRIPTION = """\
Write the copies that models hold: of the code in export/model_code that Python models share, and of the
labels of a model that another one calls; and what the server and the client, each installed alone, hold too.
`python -m export --check` finds a copy that differs.
"""
EXIT_CODES = "exit codes: 0 all copies are as their originals; 1 one could not be written; 2 wrong usage"


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    return exit_code(lambda: _run(options), (ExportError,))


def _run(options: argparse.Namespace) -> int:
    repository = options.model_repository
    written = [path for name in models_with_copies(repository) for path in write_copies(name, repository)]
    names = [os.path.relpath(path, repository) for path in written]
    if options.json:
        print(json.dumps(names, indent=2))
    else:
        print("\n".join(f"written {name}" for name in names) or "every copy is as its original")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("--model-repository", type=Path, metavar="FOLDER", default=MODEL_REPOSITORY)
    parser.add_argument("--json", action="store_true", help="print the written files as JSON")
