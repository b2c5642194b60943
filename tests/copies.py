"""Copies of folders of this project, taken while other tests run on them."""

import shutil
from pathlib import Path


def copied(origin: Path, copy: Path) -> Path:
    """`copy` of that folder, without bytecode: another process may be writing it there just now."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(origin, copy, symlinks=True, ignore=ignored))
