"""Commands whose reader has gone, as under `| head -1`, end quietly: no traceback, Python's own exit code."""

import subprocess
import sys

import pytest

from client.cli import output as of_client
from server.environment import output
from tests.conftest import ROOT

CLOSED = {1}
OF_ARGPARSE = {0, 1}  # some versions say nothing of an output that cannot be written
COMMANDS = {
    "export releases --json": CLOSED,
    "export releases": CLOSED,
    "export lint --json": CLOSED,
    "export lint --release 24.10": CLOSED,
    "export --help": OF_ARGPARSE,
    "server doctor --json": CLOSED,
    "server doctor": CLOSED,
    "server doctor --advisories": CLOSED,
    "server --help": OF_ARGPARSE,
    "server.tfserving --help": OF_ARGPARSE,
    "perf run --list": CLOSED,
    "perf --help": OF_ARGPARSE,
    "training --help": OF_ARGPARSE,
    "client --help": OF_ARGPARSE,
}


def ended(command, **streams):
    """The exit code, and what was written to the streams that are read."""
    with subprocess.Popen([sys.executable, "-m", *command.split()], cwd=ROOT, **streams) as process:
        if process.stdout:
            process.stdout.close()  # before the first byte comes
        error = process.stderr.read() if process.stderr else b""
        return process.wait(), error.decode()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_a_reader_ends_quietly(command):
    code, error = ended(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert code in COMMANDS[command], error
    assert "Traceback" not in error
    assert "BrokenPipe" not in error


@pytest.mark.parametrize("command", ["export releases --json", "server doctor --advisories"])
def test_the_longest_outputs_end_quietly(command):
    assert ended(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) == (1, "")


def test_an_error_without_a_reader_is_no_traceback():
    """Both streams in one pipe, as under `2>&1 | head`."""
    code, _ = ended("export lint /no/such/folder", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert code == 1


@pytest.mark.parametrize("module", [of_client, output])
def test_another_pipe_that_breaks_is_told(module, monkeypatch):
    monkeypatch.setattr(module, "_has_no_reader", lambda descriptor: False)

    def command():
        raise BrokenPipeError("a process that was asked has ended")

    with pytest.raises(BrokenPipeError, match="has ended"):
        module.until_closed(command)
