"""`--version` of the repository's commands; client and server, which install alone, have their own."""

import argparse
import runpy
from pathlib import Path

__all__ = ["add_version"]

FILE = Path(__file__).parents[2] / "server" / "_version.py"  # read: not all may import the server


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add `--version`, which prints the version of this checkout and ends."""
    version = runpy.run_path(str(FILE))["__version__"]
    parser.add_argument("--version", action="version", version=f"triton-vision {version}")
