"""The command line of `python -m export copies`."""

import argparse
import json
from pathlib import Path

from export.copies import models_with_copies, write_copies
from export.errors import ExportError
from export.exit_codes import exit_code

__all__ = ["main"]

MODEL_REPOSITORY = Path(__file__).resolve().parent.parent / "model_repository"

DESCRIPTION = """\
Write the copies that models hold: of the code in export/model_code that Python models share, and of the
labels of a model that another one calls. `python -m export --check` finds a copy that differs.
"""
EPILOG = "exit codes: 0 all copies are as their originals; 1 one could not be written; 2 wrong usage"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: _run(options), (ExportError,))


def _run(options: argparse.Namespace) -> int:
    repository = options.model_repository
    written = [path for name in models_with_copies(repository) for path in write_copies(name, repository)]
    names = [str(path.relative_to(repository)) for path in written]
    if options.json:
        print(json.dumps(names, indent=2))
    else:
        print("\n".join(f"written {name}" for name in names) or "every copy is as its original")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export copies",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model-repository", type=Path, metavar="FOLDER", default=MODEL_REPOSITORY)
    parser.add_argument("--json", action="store_true", help="print the written files as JSON")
    return parser
