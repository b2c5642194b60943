"""Wheels of this project's folders, and pip as a test calls it."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def pip(*arguments: object) -> str:
    """What pip prints."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build_wheel(name: str, folder: Path) -> Path:
    """The wheel of the root folder `name`, built into `folder`."""
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT / name)
    (built,) = folder.glob("*.whl")
    return built
