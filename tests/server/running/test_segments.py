"""Shared memory and folders of servers of which no process is left."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from server.running import segments


@pytest.fixture
def segment():
    """Makes one of a prefix, and removes it."""
    made = []

    def make(prefix):
        made.append(segments.FOLDER / f"{prefix}test")
        made[-1].touch()
        return made[-1]

    yield make
    for path in made:
        path.unlink(missing_ok=True)


def test_what_the_dead_left_is_removed_and_nothing_else(segment):
    dead, living = segments.new_prefix(), segments.new_prefix()
    elsewhere = dead.replace(f"-{dead.split('-')[3]}-", "-1-")
    left, used, others = segment(dead), segment(living), segment(elsewhere)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", f"{living}region"]
    with subprocess.Popen(command, stdin=subprocess.PIPE):
        segments.remove_leftovers()
        assert (left.exists(), used.exists(), others.exists()) == (False, True, True)
    segments.remove_leftovers()
    assert not used.exists()


def test_so_are_folders_of_dead_launchers(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours, *others = (segments.new_run_folder() for _ in range(3))
    with subprocess.Popen(["true"]) as launcher:
        pass
    left, used = (Path(str(one).replace(f"-{os.getpid()}-", f"-{launcher.pid}-")) for one in others)
    for folder, name in zip(others, (left, used), strict=True):
        folder.rename(name)
        (name / "file").touch()
    (tmp_path / "triton-vision-1-other").mkdir()
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", str(used)]
    with subprocess.Popen(command, stdin=subprocess.PIPE):
        segments.remove_leftovers()
        assert (left.exists(), used.exists(), ours.exists()) == (False, True, True)
    segments.remove_leftovers()
    assert {path.name for path in tmp_path.iterdir()} == {ours.name, "triton-vision-1-other"}
