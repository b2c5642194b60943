import os
import signal
import subprocess
import sys

import pytest

from server.running.ending import end

READY = "print('ready', flush=True)\nsignal.pause()"
DEAF = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{READY}"


@pytest.fixture
def started():
    """A function that starts a program; all are gone afterwards, without a wait that could hang."""
    processes = []

    def start(code):
        command = [sys.executable, "-c", f"import signal\n{code}"]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "ready\n"
        return processes[-1]

    yield start
    for process in processes:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("code", "timeout_s", "ended"), [(READY, 20, signal.SIGTERM), (DEAF, 0.1, signal.SIGKILL)]
)
@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("stopped", [False, True])
def test_it_ends(started, code, timeout_s, ended, taken, stopped):
    process = started(code)
    if stopped:
        process.send_signal(signal.SIGSTOP)
    if taken:
        process._waitpid_lock.acquire()  # as subprocess leaves it if a signal raises just there
    end(process, signal.SIGTERM, timeout_s)
    assert process.returncode == -ended


def test_what_has_ended_is_left_alone(started):
    process = started("print('ready', flush=True)")
    process.wait()
    end(process, signal.SIGTERM, 20)
    assert process.returncode == 0
