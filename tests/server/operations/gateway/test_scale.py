"""`gateway scale` at bad moments: those that serve go on, and what cannot serve does not stay."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.errors import NoAnswerError, StartError
from server.operations.control.conversation import run_folder
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
from tests.processes import halt, segments, wait_until

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
@pytest.mark.parametrize("served", [[1, "--no-restart"]], indirect=True)
def test_a_server_that_the_gateway_does_not_take_is_stopped(served):
    os.kill(told_by(served, "status")["gateway"]["pid"], signal.SIGKILL)
    code, error = failed(served, "scale", "2")
    assert code == 1
    assert "not find s2 ready (HAProxy ended, and is not started again), so it was stopped" in error
    assert list(told_by(served, "status")["servers"]) == ["s1"]


@needs_haproxy
@pytest.mark.slow
@pytest.mark.parametrize("served", [[1]], indirect=True)
@pytest.mark.parametrize(
    "happens", [halt, lambda pid: os.kill(pid, signal.SIGKILL)], ids=["stopped", "killed"]
)
def test_a_server_joins_though_haproxy_stands_still_or_ends(served, happens):
    happens(told_by(served, "status")["gateway"]["pid"])
    told = told_by(served, "scale", "2")["servers"]
    assert [server["state"] for server in told.values()] == ["ready", "ready"]
    wait_until(served.ready)
    assert [served.infer(value) for value in range(4)] == [1, 2, 3, 4]


@needs_haproxy
@pytest.mark.parametrize("served", [[1]], indirect=True)
def test_a_haproxy_that_stands_still_is_told_of_and_goes_on(served):
    halt(told_by(served, "status")["gateway"]["pid"])
    wait_until(lambda: "was stopped" in served.troubles().get("gateway", ""))
    wait_until(served.ready)
    assert "HAProxy was stopped, so it is told to go on" in served.told()
    assert served.infer(1) == 2


@needs_haproxy
@pytest.mark.slow
@pytest.mark.parametrize("served", [[2]], indirect=True)
def test_a_server_that_is_named_twice_is_replaced_once(served):
    assert list(told_by(served, "restart", "s1", "s1")["servers"]) == ["s2", "s3"]
    assert served.told().count("was drained") == 1
    assert served.infer(1) == 2


@needs_haproxy
@pytest.mark.slow
@pytest.mark.parametrize("served", [[2]], indirect=True)
@pytest.mark.parametrize("kind", ["grpc", "http"])
@pytest.mark.parametrize("identify", [int, "a-{}".format], ids=["numbers", "strings"])
def test_sequences_end_where_they_began(served, kind, identify):
    """A server that is drained keeps those under way, and is not held up by those that have ended."""
    ids = [identify(number) for number in range(1, 6)]

    def steps(**flags):
        return [served.infer(1, kind=kind, model="counter", sequence_id=each, **flags) for each in ids]

    assert steps(sequence_start=True) == [1] * len(ids)
    restart = subprocess.Popen(gateway_command(served, "restart"), cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_until(lambda: "s3 takes requests" in served.told())
    for count in range(2, 20):
        assert steps() == [count] * len(ids)
    assert restart.poll() is None
    assert steps(sequence_end=True) == [20] * len(ids)
    assert restart.wait() == 0
    assert "s1 was drained" in served.told()


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


@needs_haproxy
@pytest.mark.slow
@pytest.mark.parametrize("served", [[1]], indirect=True)
def test_a_stop_gives_up_what_is_being_changed(served):
    changes = [("scale", "9"), ("restart",), ("scale", "3")]
    commands = [subprocess.Popen(gateway_command(served, *each), cwd=ROOT) for each in changes]
    wait_until(lambda: "s2 takes requests" in served.told())
    served.process.terminate()
    assert served.process.wait() == 0
    assert [command.wait() for command in commands] == [1] * len(changes)
    assert not run_folder(served.port).exists()
    assert not segments(served.process.pid)
    assert not [*Path(tempfile.gettempdir()).glob(f"triton-vision-{served.process.pid}-*")]


@pytest.fixture
def two():
    """A `Fleet` of two servers that were never started; and what it dismissed, by slot."""
    some, dismissed = fleet.Fleet(SimpleNamespace(trouble="", servers={}), None), []
    some.members = {slot: SimpleNamespace(slot=slot, ended=None, absent={}) for slot in ("s1", "s2")}
    some._dismiss = dismissed.append
    return some, dismissed


def test_nobody_is_taken_out_for_one_who_has_left(two):
    some, dismissed = two
    left = threading.Event()
    left.set()
    some.scale(1, left)
    assert not dismissed
    left.clear()
    some.scale(1, left)
    assert dismissed == ["s2"]


def test_nothing_is_changed_once_it_stops(two):
    some, dismissed = two
    some.stopping = True
    for change in (lambda: some.scale(1), some.restart, lambda: some.candidate("tiny").__enter__()):
        with pytest.raises(StartError, match="being stopped"):
            change()
    assert not dismissed


def test_a_haproxy_that_is_started_again_is_waited_for(two):
    some, _ = two
    puts, ups = [NoAnswerError("it ended"), None], [NoAnswerError("it ended"), False, True]

    def told(answers):
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    def put(slot, upstream):
        some.gateway.servers[slot] = told(puts)

    some.gateway.put, some.gateway.runtime = put, SimpleNamespace(is_up=lambda slot: told(ups))
    some._put(some.members["s2"], None)
    assert puts == ups == []
    dead = some.members["s1"]
    dead.ended, dead.supervisor = 1, SimpleNamespace(troubles=lambda: {"tiny": "no graph"})
    with pytest.raises(NoAnswerError, match=r"not find s1 ready \(tiny: no graph\), so it was stopped"):
        some._put(dead, None)


def test_a_start_that_is_broken_off_stops_all_at_once():
    all_are_there = threading.Barrier(3, timeout=60)
    stopped = []

    def stop():
        all_are_there.wait()
        stopped.append(True)

    fleet._break_off([SimpleNamespace(server=SimpleNamespace(stop=stop))] * 3)
    assert len(stopped) == 3
