"""Setting up says little when it goes well, everything when it fails; the demo ends with what works."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from client.common.defaults import DETECTOR
from tests.conftest import ROOT
from tests.launcher import get, write_model
from tests.processes import alive, command_line, descendants

pytestmark = pytest.mark.slow


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
    # Setting up, exporting and fetching print the rest of what `make demo` shows at first: 25 lines.
    assert len(lines) + 25 <= 60
    _, _, ending = done.stdout.partition("Serve it yourself:\n")
    serve, *commands = re.findall(r"^  (.+)$", ending, re.MULTILINE)
    assert serve == "make serve"
    locates = any(model.name == DETECTOR for model in server.models())  # its weights come by npm
    assert len(commands) == 5 + locates
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
    assert drawn.keys() == {"coffee-explained.png", "faces.png", *(["boxes.png"] if locates else [])}
    assert ("1 person" in said) == locates
    assert drawn["coffee-explained.png"] == (600, 400)
    assert "drawn in" in said
    assert "Let us first determine markers of the coins" in said
    assert "recognize_objects" in said


@pytest.fixture
def web(tmp_path):
    """What `make web` runs, with a server on ports that are free and of one small model."""
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    show = ["make", "--dry-run", "--old-file=.venv/.installed", "--old-file=export", "web"]
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    show.append("ARGS=--port 0 --json")
    shown = subprocess.run(show, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "python -m server &" in shown.stdout
    ports = " ".join(f"--{name}-port=0" for name in ("http", "grpc", "metrics"))
    recipe = shown.stdout.replace("python -m server", f"python -m server {tmp_path / 'models'} {ports}")
    write_model(tmp_path / "models", "echo")
    (tmp_path / "recipe").write_text(recipe.replace(".venv/bin/python", sys.executable))
    return ["sh", str(tmp_path / "recipe")]


@pytest.mark.parametrize("ended_by", ["Ctrl-C", "SIGTERM"])
def test_server_and_page_start_and_stop_together(web, ended_by):
    started = subprocess.Popen(web, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        lines = []
        while not any("Ctrl-C" in line for line in lines) or not any("page" in line for line in lines):
            line = started.stdout.readline()
            assert line, lines
            lines.append(line)
        url = json.loads(next(line for line in lines if '"page"' in line))["page"]
        assert get(url)[0] == 200
        below = descendants(started.pid)
        if ended_by == "Ctrl-C":
            os.killpg(started.pid, signal.SIGINT)  # as a terminal does: everybody in front gets it
        else:
            page = next(pid for pid in below if b"client" in command_line(pid))
            os.kill(page, signal.SIGTERM)
        started.wait()
        assert alive(below) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        started.stdout.close()
