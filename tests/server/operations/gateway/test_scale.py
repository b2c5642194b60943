"""`gateway scale` at bad moments: those that serve go on, and what cannot serve does not stay."""

import os
import signal
import subprocess
import threading
from types import SimpleNamespace

import pytest

from server.operations.gateway import fleet
from server.operations.gateway.keys import Grant
from tests.conftest import ROOT
from tests.gateways import (
    Served,
    Tenants,
    gateway_command,
    kill_tritonserver,
    load,
    needs_haproxy,
    told_by,
    write_models,
)
from tests.processes import halt, wait_until

ENOUGH = 500  # requests


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("fleet") / "models")


@pytest.fixture
def served(repository, tmp_path, request):
    tenants = Tenants(tmp_path / "keys", Grant("alice", "", 100_000, 1000))
    servers, *options = request.param
    with Served(repository, tmp_path / "log", tenants, *options, servers=servers) as served:
        yield served
    assert served.process.returncode == 0


def failed(served, *arguments):
    """The exit code and the error."""
    command = gateway_command(served, *arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@needs_haproxy
@pytest.mark.slow
@pytest.mark.parametrize("served", [[1]], indirect=True)
def test_a_new_server_is_not_asked_for_a_model_that_it_could_not_load(served, repository):
    file = repository / "tiny" / "1" / "model.onnx"
    whole = file.read_bytes()
    with load(served) as (counts, so_far):
        file.write_bytes(b"no graph")
        try:
            assert len(told_by(served, "scale", "2")["servers"]) == 2
            answered = so_far()
            wait_until(lambda: so_far() > answered + ENOUGH)
            assert len(told_by(served, "restart", "s2")["servers"]) == 2
        finally:
            file.write_bytes(whole)
        assert list(told_by(served, "scale", "1")["servers"]) == ["s1"]
    assert counts.keys() == {"answered"}


@needs_haproxy
@pytest.mark.slow
@pytest.mark.parametrize("served", [[1]], indirect=True)
def test_a_server_that_the_gateway_does_not_take_is_stopped(served):
    haproxy = told_by(served, "status")["gateway"]["pid"]
    halt(haproxy)
    try:
        code, error = failed(served, "scale", "2")
    finally:
        os.kill(haproxy, signal.SIGCONT)
    assert code == 1
    assert "HAProxy does not answer" in error
    assert list(told_by(served, "status")["servers"]) == ["s1"]
    wait_until(served.ready)
    told = told_by(served, "scale", "2")["servers"]
    assert [server["state"] for server in told.values()] == ["ready", "ready"]
    assert [served.infer(value) for value in range(4)] == [1, 2, 3, 4]


@needs_haproxy
@pytest.mark.slow
@pytest.mark.parametrize("served", [[2, "--no-restart"]], indirect=True)
def test_a_server_that_has_ended_goes_first(served):
    kill_tritonserver(told_by(served, "status")["servers"]["s1"]["pid"])
    wait_until(lambda: told_by(served, "status")["servers"]["s1"]["state"] == "ended")
    assert list(told_by(served, "scale", "1")["servers"]) == ["s2"]
    assert served.infer(1) == 2


@needs_haproxy
@pytest.mark.slow
@pytest.mark.parametrize("served", [[1]], indirect=True)
def test_ctrl_c_ends_it_early(served):
    command = gateway_command(served, "scale", "9")
    scale = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: "s2 takes requests" in served.told())
    scale.send_signal(signal.SIGINT)
    assert scale.communicate()[1] == "interrupted\n"
    assert scale.returncode == 130
    assert len(told_by(served, "scale", "1")["servers"]) == 1  # once that has ended
    assert "s9 takes requests" not in served.told()
    assert served.infer(1) == 2


def test_a_start_that_is_broken_off_stops_all_at_once():
    all_are_there = threading.Barrier(3, timeout=60)
    stopped = []

    def stop():
        all_are_there.wait()
        stopped.append(True)

    fleet._break_off([SimpleNamespace(server=SimpleNamespace(stop=stop))] * 3)
    assert len(stopped) == 3
