"""`gateway scale` at bad moments: those that serve go on, and what cannot serve does not stay."""

import os
import shutil
import signal
import subprocess
import threading
from types import SimpleNamespace

import pytest

from server.errors import NoAnswerError
from server.operations.gateway import fleet
from server.operations.gateway.keys import Grant
from tests.conftest import ROOT
from tests.gateways import (
    TINY_CONFIG,
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
def test_a_model_that_new_servers_cannot_load_is_not_lost(served, repository):
    file = repository / "tiny" / "1" / "model.onnx"
    whole = file.read_bytes()
    with load(served) as (counts, so_far):
        file.write_bytes(b"no graph")
        (repository / "empty").mkdir()  # which no server has
        (repository / "empty" / "config.pbtxt").write_text(TINY_CONFIG)
        try:
            assert list(told_by(served, "scale", "2")["servers"]) == ["s1", "s2"]
            answered = so_far()
            wait_until(lambda: so_far() > answered + ENOUGH)
            code, error = failed(served, "restart", "s1")
            assert code == 1
            assert "a new server could not load tiny (" in error
            assert "; s1 has it and goes on" in error
            assert "empty" not in error
            assert list(told_by(served, "restart", "s2")["servers"]) == ["s1", "s3"]
        finally:
            file.write_bytes(whole)
            shutil.rmtree(repository / "empty")
        assert list(told_by(served, "restart", "s1")["servers"]) == ["s3", "s2"]
        assert list(told_by(served, "scale", "1")["servers"]) == ["s2"]  # which alone has it
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


def test_nobody_is_taken_out_for_one_who_has_left():
    members = {slot: SimpleNamespace(ended=None, absent={}) for slot in ("s1", "s2")}
    dismissed, left = [], threading.Event()
    some = SimpleNamespace(members=members, _changes=threading.Lock(), _dismiss=dismissed.append)
    left.set()
    fleet.Fleet.scale(some, 1, left)
    assert not dismissed
    left.clear()
    fleet.Fleet.scale(some, 1, left)
    assert dismissed == ["s2"]


def test_a_haproxy_that_is_started_again_is_waited_for():
    answers = [NoAnswerError("it ended"), False, True]

    def is_up(slot):
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    some = SimpleNamespace(gateway=SimpleNamespace(runtime=SimpleNamespace(is_up=is_up)))
    fleet.Fleet._wait_until_up(some, SimpleNamespace(slot="s2", ended=None))
    assert not answers
    supervisor = SimpleNamespace(troubles=lambda: {"tiny": "no graph"})
    dead = SimpleNamespace(slot="s2", ended=1, supervisor=supervisor)
    with pytest.raises(NoAnswerError, match=r"not find s2 ready \(tiny: no graph\), so it was stopped"):
        fleet.Fleet._wait_until_up(some, dead)


def test_a_start_that_is_broken_off_stops_all_at_once():
    all_are_there = threading.Barrier(3, timeout=60)
    stopped = []

    def stop():
        all_are_there.wait()
        stopped.append(True)

    fleet._break_off([SimpleNamespace(server=SimpleNamespace(stop=stop))] * 3)
    assert len(stopped) == 3
