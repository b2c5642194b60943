"""Setting up says little when it goes well, everything when it fails; the demo ends with what works."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path):
    """What `make setup` reads, with a virtual environment whose pip is a stand-in."""
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "Collecting $*"\necho "a warning" >&2\nexit ${PIP_EXIT:-0}\n')
    python.chmod(0o755)
    return tmp_path


def setup(folder, **settings):
    command = ["make", "setup", f"PYTHON={sys.executable}"]
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of a `make test` that runs this
    environment = {**{name: value for name, value in os.environ.items() if name not in outer}, **settings}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_setting_up_is_a_line_per_step(folder):
    done = setup(folder)
    assert done.returncode == 0, done.stderr
    first, *steps = done.stdout.splitlines()
    assert first.startswith("setting up .venv with Python 3")
    assert len(steps) == 3
    assert all(re.fullmatch(r"  \w.* \.\.\. \d+ s", step) for step in steps), done.stdout
    assert not done.stderr
    assert setup(folder).stdout.startswith("make: Nothing to be done")


def test_what_fails_says_everything_and_nothing_is_taken_for_done(folder):
    done = setup(folder, PIP_EXIT="7")
    assert done.returncode != 0
    assert "failed\nCollecting -m pip install" in done.stdout
    assert "a warning" in done.stdout
    assert not (folder / ".venv" / ".installed").exists()


def test_the_demo_is_short_and_ends_with_commands_that_work(server, monkeypatch):
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "demo.py"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    # Setting up, exporting and fetching print the rest of what `make demo` shows.
    assert len(lines) + 25 <= 60
    _, _, ending = done.stdout.partition("Serve it yourself:\n")
    serve, *commands = re.findall(r"^  (.+)$", ending, re.MULTILINE)
    assert serve == "make serve"
    assert len(commands) == 5
    monkeypatch.setenv("TRITON_VISION_URL", server.grpc_url)
    said = ""
    for command in commands:
        asked = subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True, text=True, check=False)
        assert asked.returncode == 0, command + asked.stderr
        said += asked.stdout
    assert "tiger cat" in said
    assert "100.0%" in said  # of a face
    by_model = re.findall(r"(\w+): .*?drawn in (\S+\.png)", " ".join(done.stdout.split()))
    drawn = {Path(file).name: Image.open(file).size for _, file in by_model}
    assert drawn.keys() == {"coffee-explained.png", "faces.png"}
    assert drawn["coffee-explained.png"] == (600, 400)
    assert "drawn in" in said
    assert "Let us first determine markers of the coins" in said
    assert "recognize_objects" in said
