import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.running import ending
from server.running.ending import end, free_to_wait
from tests.processes import halt

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
def test_it_ends(started, monkeypatch, code, timeout_s, ended, taken, stopped):
    monkeypatch.setattr(ending, "MOMENT_S", 0.1)
    process = started(code)
    if stopped:
        halt(process.pid)
    if taken:
        process._waitpid_lock.acquire()  # as subprocess leaves it if a signal raises just there
    end(process, signal.SIGTERM, timeout_s)
    assert process.returncode == -ended


@pytest.mark.timeout(30)
def test_others_may_ask_after_it_meanwhile(started):
    process = started(READY)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor() as pool:
            asking = [pool.submit(ask_until_ended, process) for _ in range(3)]
            for _ in range(2000):
                free_to_wait(process)
            end(process, signal.SIGTERM, 20)
            assert {each.result() for each in asking} == {-signal.SIGTERM}
    finally:
        sys.setswitchinterval(interval)


def ask_until_ended(process):
    while (status := process.poll()) is None:
        pass
    return status


def test_what_has_ended_is_left_alone(started):
    process = started("print('ready', flush=True)")
    process.wait()
    end(process, signal.SIGTERM, 20)
    assert process.returncode == 0
