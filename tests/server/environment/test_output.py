"""What a server writes: nobody who reads it, or does not, ends or holds up the server."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

WRITES = """
import contextlib, os, sys
from server.environment.output import patient_output
from server.running.json_log import standard_error_in_json
with patient_output(), standard_error_in_json() if sys.argv[1:] else contextlib.nullcontext():
    for number in range(4):
        print(str(number) * 50_000, file=sys.stderr)
    print("served on", [os.readlink(f"/proc/self/fd/{number}").split(":")[0] for number in range(3)])
"""


def run(error, *arguments, before=""):
    """What it printed; its standard error goes to `error`."""
    command = ["sh", "-c", f'{before} exec "$0" -c "$@"', sys.executable, WRITES, *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=error,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0
    return done.stdout


@pytest.mark.parametrize("form", [(), ("json",)])
@pytest.mark.parametrize("reader", ["stands still", "has gone"])
def test_a_reader_that_takes_nothing_is_not_waited_for(form, reader):
    read, write = os.pipe()
    if reader == "has gone":
        os.close(read)
    assert "served on" in run(write, *form)
    os.close(write)


@pytest.mark.parametrize("form", [(), ("json",)])
def test_a_full_disk_is_not_the_end(form):
    with open("/dev/full", "w") as full:
        assert "served on" in run(full, *form)


def test_what_is_read_is_whole():
    done = subprocess.run(
        [sys.executable, "-c", WRITES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == "".join(f"{str(number) * 50_000}\n" for number in range(4))


def test_closed_descriptors_are_nobodys():
    assert run(None, before="exec 0<&- 2>&-;") == "served on ['/dev/null', 'pipe', '/dev/null']\n"


SAYS = """
import sys
from server.environment.output import patient_output
with patient_output():
    print("x" * 200_000, flush=True)
    print("served on", file=sys.stderr)
"""


@pytest.mark.parametrize("reader", ["stands still", "has gone", "full disk", "reads"])
def test_so_is_standard_output(reader, tmp_path):
    read, write = os.pipe()
    if reader == "has gone":
        os.close(read)
    with open("/dev/full" if reader == "full disk" else tmp_path / "out", "w") as file:
        done = subprocess.run(
            [sys.executable, "-c", SAYS],
            cwd=ROOT,
            stdout=file if reader in ("full disk", "reads") else write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=True,
        )
    assert done.stderr == "served on\n"
    if reader == "reads":
        assert (tmp_path / "out").read_text() == "x" * 200_000 + "\n"
