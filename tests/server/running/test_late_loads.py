"""A model whose load does not end is left out, once it had as much time alone; the others are served."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from server import TritonServer
from server.errors import StartError
from tests.held import Gate
from tests.launcher import CONFIG, ECHO, ask, write_ensemble, write_model
from tests.processes import wait_until

TIMEOUT_S = 20.0  # enough for a small model, on a busy machine, too


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def repository(tmp_path, gate):
    """A model, `late`, that has loaded once the gate is open."""
    code = f"{gate.code}{ECHO}    def initialize(self, args):\n        pass_gate()\n"
    one_instance = CONFIG.replace("count: 2", "count: 1")  # each load is held once
    write_model(tmp_path / "models", "late", code, one_instance)
    return tmp_path / "models"


@pytest.mark.slow
def test_the_others_are_served(repository, gate, tmp_path, capfd):
    write_model(repository, "echo")
    write_ensemble(repository, "through_late", "late")
    with gate.closed(), TritonServer(repository, log=tmp_path / "log", start_timeout_s=TIMEOUT_S) as server:
        assert ask(server.grpc_url, "echo") == 1.0
        missing = server.missing()
    assert missing.keys() == {"late", "through_late"}
    assert missing["late"] == "left out: its load did not end in time; --start-timeout allows more"
    assert "model late is left out, and so is what calls it (through_late)" in capfd.readouterr().err


@pytest.mark.slow
def test_where_there_are_no_others_the_start_fails_and_names_it(repository, gate, tmp_path):
    server = TritonServer(repository, log=tmp_path / "log", start_timeout_s=TIMEOUT_S)
    with (
        gate.closed(),
        pytest.raises(StartError, match=r"not live in time, still loading late; .*--start-timeout$"),
    ):
        server.start()


@pytest.mark.slow
def test_a_stop_does_not_wait_for_it(repository, gate, tmp_path):
    """Nobody is served yet, though tritonserver itself would wait for half a minute."""
    write_model(repository, "echo")
    server = TritonServer(repository, log=tmp_path / "log", start_timeout_s=TIMEOUT_S)
    with gate.closed(), ThreadPoolExecutor() as threads:
        start = threads.submit(server.start)
        gate.wait_until_held()
        first = server.pid
        gate.wait_until_held(2)  # alone, and the others are ready
        assert server.pid != first
        wait_until(lambda: server.run.api.live())
        server.stop()
        assert "Timeout" not in (tmp_path / "log").read_text()
        assert str(start.exception()) == "the server was stopped"
