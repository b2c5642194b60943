"""How the launcher is told to stop."""

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.gateways import needs_haproxy
from tests.launcher import ECHO, Launcher, write_model
from tests.processes import alive, descendants, wait_until

STOPS = """
import os, signal
signal.signal(signal.SIGHUP, {before})
from server.environment.signals import stop_at_signals
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
# Imported as Python starts. Once `when` is there, a signal comes while the main thread finalises an object.
LOSES_A_SIGNAL = """
import os, signal, subprocess, threading, time

class Finalised:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def losing(call):
    def called(*arguments, **named):
        if threading.current_thread() is threading.main_thread() and os.path.exists({when!r}):
            os.remove({when!r})
            Finalised()
        return call(*arguments, **named)
    return called

subprocess.Popen.wait, time.sleep = losing(subprocess.Popen.wait), losing(time.sleep)
"""


def told(before):
    command = [sys.executable, "-c", STOPS.format(before=before)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")


def gateway_options(folder):
    keys = folder / "keys.txt"
    keys.write_text(f"alice sha256:{'a' * 64} rate=5 concurrency=2\n")
    return ("--gateway", "--gateway-port=0", "--gateway-metrics-port=0", f"--gateway-keys={keys}")


def test_a_stop_that_has_begun_is_not_broken_off():
    assert told("signal.SIG_DFL") == ["SIGHUP", "cleaned up", ""]


def test_under_nohup_the_end_of_the_terminal_is_none():
    assert told("signal.SIG_IGN") == ["SIGHUP", "SIGTERM", "cleaned up", ""]


@pytest.mark.slow
@pytest.mark.parametrize("behind", ["nothing", pytest.param("gateway", marks=needs_haproxy)])
def test_a_signal_is_heeded_though_python_drops_its_exception(tmp_path, behind):
    write_model(tmp_path / "models", "echo")
    when = tmp_path / "when"
    (tmp_path / "sitecustomize.py").write_text(LOSES_A_SIGNAL.format(when=str(when)))
    options = gateway_options(tmp_path) if behind == "gateway" else ()
    with Launcher(tmp_path / "models", tmp_path / "log", *options, PYTHONPATH=str(tmp_path)) as launcher:
        below = descendants(launcher.process.pid)
        when.touch()
        assert launcher.process.wait() == 0
    assert "Exception ignored in" in (tmp_path / "log").read_text()
    assert alive(below) == []


@pytest.mark.slow
@pytest.mark.parametrize("behind", ["nothing", pytest.param("gateway", marks=needs_haproxy)])
def test_ctrl_c_ends_a_start_while_a_model_is_loaded(tmp_path, behind):
    bar, loading = tmp_path / "bar", tmp_path / "loading"
    bar.touch()
    waits = f"import os, time\nopen({str(loading)!r}, 'w').close()\n"
    waits += f"while os.path.exists({str(bar)!r}): time.sleep(0.05)\n"
    write_model(tmp_path / "models", "echo", waits + ECHO)
    options = gateway_options(tmp_path) if behind == "gateway" else ()
    command = [sys.executable, "-m", "server", str(tmp_path / "models"), "--status-port=0", *options]
    command += [] if options else ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(loading.exists)
    below = descendants(started.pid)
    started.send_signal(signal.SIGINT)
    assert started.wait() == 0
    assert alive(below) == []
