"""The command line as a whole."""

import re
import subprocess
import sys

import pytest

from server import __version__
from tests.conftest import ROOT


@pytest.mark.parametrize("arguments", [["--help"], ["--list"], ["lint", "--help"]], ids=" ".join)
def test_what_exports_nothing_imports_no_torch(arguments):
    """It takes two seconds."""
    code = (
        "import sys\n"
        "from export.cli.commands import run\n"
        f"try: run({arguments!r})\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", ["client", "server", "export", "perf", "training"])
def test_every_command_says_its_version(program):
    command = [sys.executable, "-m", program, "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"triton-vision\S* {re.escape(__version__)}\n", done.stdout)
