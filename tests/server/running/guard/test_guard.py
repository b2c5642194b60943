"""The guard's parts: a log that nobody reads holds nobody up; arguments that others cannot read."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server import TritonServer
from tests.conftest import ROOT
from tests.launcher import ECHO, Launcher, ask, write_model
from tests.processes import alive, state, wait_until

GUARD = ROOT / "server" / "running" / "guard"
WRITE_MUCH = "import os\nfor n in range(3000): os.write(1, b'%07d ' % n * 128 + b'\\n')"  # 3 MiB
PASS_ON = """
import os, select, subprocess, sys
sys.path.insert(0, {guard!r})
from log_pump import LogPump
read_by_none, read_by_test = map(int, sys.argv[1:])
pump = LogPump([read_by_none, read_by_test], b"none")
child = subprocess.Popen([sys.executable, "-c", {write!r}], stdout=pump.entry)
pump.close_entry()
while child.poll() is None:
    pump.move(*select.select(pump.readable(), pump.writable(), [], pump.timeout() or 0.1)[:2])
pump.finish(1.0)
sys.exit(child.wait())
"""
HIDDEN = """
import os, sys
sys.path.insert(0, {guard!r})
from hidden_arguments import start
list_ = "open('/proc/self/cmdline').read()"
show = "import sys; print(sys.argv[1:], " + list_ + ".count('key' + '=value'), flush=True)"
child = start([sys.executable, "-c", show, "first"], ["--secret=key=value", "--other=key=value x"],
              stdout=1, preexec=lambda: None)
sys.exit(child.wait())
"""


def test_a_log_that_nobody_reads_holds_up_neither_the_child_nor_another_reader():
    silent, silent_in = os.pipe()
    heard, heard_in = os.pipe()
    code = PASS_ON.format(guard=str(GUARD), write=WRITE_MUCH)
    pump = subprocess.Popen(
        [sys.executable, "-c", code, str(silent_in), str(heard_in)], pass_fds=[silent_in, heard_in]
    )
    os.close(heard_in)
    os.close(silent_in)
    with open(heard, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert pump.wait() == 0
    assert lines == [b"%07d " % n * 128 for n in range(3000)]
    with open(silent, "rb") as pipe:  # the pipe's own buffer: the beginning, unharmed
        kept = pipe.read()
    assert kept
    assert b"\n".join(lines).startswith(kept)


def run_hidden(*prefix):
    command = [*prefix, sys.executable, "-c", HIDDEN.format(guard=str(GUARD))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_hidden_arguments_arrive_and_are_not_in_the_list_of_processes():
    assert run_hidden() == ["['first', '--secret=key=value', '--other=key=value x'] 0"]


def test_where_nothing_may_be_traced_arguments_are_plain_and_a_line_says_so():
    told, shown = run_hidden(sys.executable, str(ROOT / "tests" / "seccomp.py"), "ptrace")
    assert "other users of this machine can read the key" in told
    assert shown == "['first', '--secret=key=value', '--other=key=value x'] 2"


@pytest.mark.slow
def test_a_launcher_whose_standard_error_nobody_reads_serves_on(tmp_path):
    write_model(tmp_path / "models", "echo")
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with Launcher(tmp_path / "models", fifo, "--", "--log-verbose=5") as launcher:
            for _ in range(200):
                assert launcher.ready("echo")
            os.kill(launcher.stubs("echo")[0], signal.SIGKILL)
            wait_until(lambda: launcher.count("triton_vision_model_restarts_total", "echo") == 1)
    finally:
        os.close(reader)


@pytest.mark.slow
def test_more_clients_than_a_shells_limit_allows_are_answered(tmp_path):
    write_model(tmp_path / "models", "echo")
    shell = ("sh", "-c", 'ulimit -Sn 200; exec "$0" "$@"')
    with (
        Launcher(tmp_path / "models", tmp_path / "log", prefix=shell) as launcher,
        contextlib.ExitStack() as stack,
    ):
        for url in (launcher.http.removeprefix("http://"), launcher.grpc):
            host, _, port = url.rpartition(":")
            for _ in range(300):
                stack.enter_context(socket.create_connection((host, int(port))))
        assert launcher.ready("echo")
        assert ask(launcher.grpc, "echo") == 1.0


RUN_FOLDERS = "triton-vision-[0-9]*"  # beside the folder of sockets


@pytest.mark.slow
@pytest.mark.parametrize("end", ["guard", "tritonserver"])
def test_the_run_folder_goes_with_the_run(tmp_path, end):
    write_model(tmp_path / "models", "echo")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with Launcher(tmp_path / "models", tmp_path / "log", TMPDIR=str(scratch)) as launcher:
        (before,) = scratch.glob(RUN_FOLDERS)
        os.kill(getattr(launcher, end)(), 9)
        wait_until(lambda: launcher.count("triton_vision_tritonserver_restarts_total") == 1)
        (after,) = scratch.glob(RUN_FOLDERS)
        assert before != after
    assert list(Path(scratch).iterdir()) == []


ORPHAN = """
import os, signal
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        with open({told!r} + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename({told!r} + ".new", {told!r})
        {then}
    os._exit(0)
os.wait()
"""


@pytest.mark.slow
def test_what_models_leave_to_themselves_is_waited_for(tmp_path):
    told = tmp_path / "pid"
    write_model(tmp_path / "models", "echo", ORPHAN.format(told=str(told), then="pass") + ECHO)
    with TritonServer(tmp_path / "models", log=tmp_path / "log"):
        wait_until(told.exists)
        wait_until(lambda: state(told.read_text()) == "")  # no zombie


@pytest.mark.slow
def test_what_models_left_to_themselves_ends_with_a_guard_that_is_killed(tmp_path):
    told = tmp_path / "pid"
    code = ORPHAN.format(told=str(told), then="os.execvp('sleep', ['sleep', '1000'])") + ECHO
    write_model(tmp_path / "models", "echo", code)
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:
        wait_until(told.exists)
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait() == 128 + signal.SIGKILL
        wait_until(lambda: not alive([told.read_text()]))
