"""Shared memory of servers of which no process is left."""

import subprocess
import sys

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
