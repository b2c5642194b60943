"""A model's process, or tritonserver, that is stopped, as by SIGSTOP."""

import os
import signal
from types import SimpleNamespace

import pytest

from server import Supervisor, TritonServer
from server.running import model_processes
from server.watching.supervisor import LOOK_S
from tests.launcher import write_model
from tests.processes import alive, descendants, halt, state, wait_until


@pytest.mark.slow
def test_the_second_look_ends_it(tmp_path, monkeypatch):
    """2.51 takes it for dead after a second; one that goes on then ends tritonserver, or hangs requests."""

    def later(seconds):
        monkeypatch.setattr(model_processes, "time", SimpleNamespace(monotonic=lambda: then + seconds))

    write_model(tmp_path / "models", "echo")
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:  # which nobody watches
        processes = server.run.processes
        stopped, other = processes.living("echo")
        halt(stopped.pid)
        then = model_processes.time.monotonic()
        later(0)
        assert processes.end_stopped() == []
        later(LOOK_S)
        assert processes.end_stopped() == [stopped]
        wait_until(lambda: alive([stopped.pid, other.pid]) == [other.pid])


@pytest.mark.slow
def test_a_tritonserver_that_stands_still_is_asked_nothing(tmp_path, monkeypatch):
    """The look that lets it go on would wait for its answer."""
    write_model(tmp_path / "models", "echo")
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:  # which nobody watches
        watching = Supervisor(server)
        dead, _ = server.run.processes.living("echo")
        tritonserver = descendants(server.run.pid)[0]
        halt(tritonserver)
        try:
            os.kill(dead.pid, signal.SIGKILL)
            wait_until(lambda: state(dead.pid) == "Z")
            monkeypatch.setattr(server.run.api, "index", lambda: pytest.fail("it was asked"))
            for _ in range(3):
                watching._look_at_processes(server.run)
        finally:
            os.kill(tritonserver, signal.SIGCONT)
