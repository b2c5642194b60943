"""How the launcher is told to stop."""

import subprocess
import sys

from tests.conftest import ROOT

STOPS = """
import os, signal
signal.signal(signal.SIGHUP, {before})
from server.operations.serving.serving import stop_at_signals
stop_at_signals()
try:
    for number in (signal.SIGHUP, signal.SIGTERM):
        print(number.name, flush=True)
        os.kill(os.getpid(), number)
except KeyboardInterrupt:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    print("cleaned up")
"""


def told(before):
    command = [sys.executable, "-c", STOPS.format(before=before)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")


def test_a_stop_that_has_begun_is_not_broken_off():
    assert told("signal.SIG_DFL") == ["SIGHUP", "cleaned up", ""]


def test_under_nohup_the_end_of_the_terminal_is_none():
    assert told("signal.SIG_IGN") == ["SIGHUP", "SIGTERM", "cleaned up", ""]
