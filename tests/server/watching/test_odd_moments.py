"""What dies or is stopped while tritonserver stops."""

import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tritonclient.utils import InferenceServerException

from server import Supervisor, TritonServer
from server.errors import ServerError
from tests.held import Gate
from tests.launcher import ECHO, ask, get, write_model
from tests.processes import halt, wait_until


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def repository(tmp_path, gate):
    """A model of two processes, `held`, that answers what it is asked once the gate is open."""
    code = gate.code + ECHO.replace("        return", "        pass_gate()\n        return")
    write_model(tmp_path / "models", "held", code)
    return tmp_path / "models"


@pytest.mark.slow
def test_a_death_while_somebody_stops_tritonserver_is_no_end(repository, gate, tmp_path, monkeypatch):
    """Its port then answers 503 to the launcher, too."""
    refused = threading.Event()
    look = Supervisor._look_at_processes

    def noted(self, run):
        try:
            look(self, run)
        except ServerError:
            refused.set()
            raise

    monkeypatch.setattr(Supervisor, "_look_at_processes", noted)
    arguments = ["--exit-timeout-secs=5"]  # for a model that is never freed
    with (
        TritonServer(repository, arguments=arguments, log=tmp_path / "log") as server,
        ThreadPoolExecutor() as threads,
    ):
        watching = Supervisor(server)
        with gate.closed():
            request = threads.submit(ask, server.grpc_url, "held")
            gate.wait_until_held()
            for process in server.run.processes.living("held"):
                os.kill(process.pid, signal.SIGKILL)
            assert isinstance(request.exception(), InferenceServerException)
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: get(f"http://{server.http_url}/v2/health/ready")[0] == 503)
        watch = threads.submit(watching.watch)
        wait_until(lambda: watching.server_restarts == 1 or watch.done())
        assert refused.is_set()
        assert not watch.done()
        assert ask(server.grpc_url, "held") == 1.0
        server.stop()
        watch.result()


@pytest.mark.slow
def test_a_guard_that_is_stopped_does_not_hold_up_a_stop_that_has_begun(repository, gate, tmp_path):
    with TritonServer(repository, log=tmp_path / "log") as server, ThreadPoolExecutor() as threads:
        with gate.closed():
            request = threads.submit(ask, server.grpc_url, "held")
            gate.wait_until_held()
            stopped = threads.submit(server.stop)
            wait_until(lambda: get(f"http://{server.http_url}/v2/health/ready")[0] == 503)
            guard = server.pid
            halt(guard)
            gate.open()
            assert request.result() == 1.0
        try:
            assert stopped.result(timeout=600) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(guard, signal.SIGCONT)
