"""`server status`, `stop` and `reload`, to a launcher without a gateway."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.grpc as grpc

from server.cli import main
from server.errors import NoAnswerError, StartError
from server.operations.control import conversation as conversation_module
from server.operations.control.conversation import (
    CONTROL_SOCKET,
    Control,
    ask,
    connected,
    conversation,
    make_private,
    remove_leftovers,
    run_folder,
    run_folders,
)
from tests.conftest import ROOT
from tests.gateways import TINY_CONFIG
from tests.graphs import infer, publish
from tests.launcher import Launcher, get
from tests.processes import alive, halt
from tests.rollouts import plus, state_in


@pytest.fixture
def runtime(tmp_path_factory, monkeypatch):
    """A place for sockets of this test's alone; their paths have to be short."""
    folder = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["status", "stop", "reload", "rollout m --version 2"])
def test_where_none_runs_that_is_said(runtime, command, capsys):
    assert main(command.split()) == 1
    assert (
        "no launcher of yours runs on this machine; `python -m server` starts one" in capsys.readouterr().err
    )
    assert main([*command.split(), "--port=25000"]) == 1
    assert "no launcher of yours runs at port 25000" in capsys.readouterr().err


MORE_THAN_WAIT = 100  # at a socket
LISTENS = """
import signal
from server.operations.control.conversation import CONTROL_SOCKET, Control, make_private, run_folder

make_private(run_folder(25000))
with Control(run_folder(25000) / CONTROL_SOCKET, lambda *_: {}):
    print("listens", flush=True)
    signal.pause()
"""


def test_a_launcher_that_is_stopped_holds_up_nobody(runtime, capsys, monkeypatch):
    launcher = subprocess.Popen([sys.executable, "-c", LISTENS], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        launcher.stdout.readline()
        halt(launcher.pid)
        for command in (
            "status",
            "stop --port=25000",
            "reload --port=25000",
            "gateway status --gateway-port=25000",
        ):
            assert main(command.split()) == 1
            assert f"was stopped; `kill -CONT {launcher.pid}` lets it go on" in capsys.readouterr().err
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(MORE_THAN_WAIT)]
        with contextlib.suppress(BlockingIOError):
            for each in waiting:
                each.setblocking(False)
                each.connect(str(run_folder(25000) / CONTROL_SOCKET))
        monkeypatch.setattr(conversation_module, "CONNECT_S", 1)
        remove_leftovers()
        assert list(run_folders()) == [25000]
        assert main(["status"]) == 1
        assert "the launcher at port 25000 takes no questions" in capsys.readouterr().err
        for each in waiting:
            each.close()
    finally:
        launcher.kill()
        launcher.communicate()
    remove_leftovers()
    assert not run_folders()


def test_scripts_get_json_where_none_runs(runtime, capsys):
    assert main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"launchers": []}


def value(url, model):
    with grpc.InferenceServerClient(url) as client:
        return infer(client, model, x=np.array([[1]], np.float32)).as_numpy("y").item()


@pytest.mark.slow
def test_a_launcher_from_its_start_to_its_stop(runtime, tmp_path):
    repository = tmp_path / "models"
    for name in ("one", "two"):
        publish(repository, name, plus(1), TINY_CONFIG)
    with state_in(tmp_path / "state"), Launcher(repository, tmp_path / "log", "--status-port=0") as launcher:
        port = int(launcher.http.rpartition(":")[2])
        assert (runtime / f"triton-vision-gateway-{os.getuid()}").stat().st_mode & 0o777 == 0o700
        done = run("status")
        assert done.returncode == 0
        assert f"port {port}: process {launcher.process.pid} serves {repository}" in done.stdout
        assert "model   one: version 1 (server)" in done.stdout

        publish(repository, "one", plus(2), version=2)
        publish(repository, "three", plus(3), (repository / "one" / "config.pbtxt").read_text())
        (repository / "two").rename(tmp_path / "taken-away")
        assert run("reload", "none").stderr.count("has no model none to load; there are one, three") == 1
        done = run("reload", "--json", f"--port={port}")
        assert done.returncode == 0
        assert json.loads(done.stdout) == {
            "reloaded": ["one", "three"],
            "unloaded": ["two"],
            "failed": {},
            "held": [],
        }
        assert value(launcher.grpc, "one") == 3
        assert value(launcher.grpc, "three") == 4
        assert get(f"{launcher.http}/v2/models/two/ready")[0] != 200

        publish(repository, "one", b"no graph", version=3)
        done = run("reload", "one")
        assert done.returncode == 1
        assert "one could not be loaded, and goes on as it was: server: " in done.stderr
        assert value(launcher.grpc, "one") == 3

        done = run("rollout", "one", "--version=4")
        assert done.returncode == 1
        assert "a launcher does none of that, but status, stop, reload" in done.stderr
        done = run("stop")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "it has ended")
        assert not alive([launcher.process.pid])
        assert list(runtime.rglob("*.sock")) == []


def test_several_launchers_are_told_apart(runtime, capsys):
    def answer(_, client):
        client.tell({"n": 1})
        return {"n": 2}

    for port in (25001, 25002):
        make_private(run_folder(port))
    with (
        Control(run_folder(25001) / "control.sock", answer),
        Control(run_folder(25002) / "control.sock", answer),
    ):
        assert main(["reload"]) == 1
        assert "launchers run at ports 25001, 25002; say which with --port" in capsys.readouterr().err
        assert ask(25002, {"do": "what"}) == {"n": 2}
        assert main(["status", "--port=25001"]) == 1  # it is of another release: it tells less
    with pytest.raises(NoAnswerError, match="no launcher of yours runs at port 25001"):
        ask(25001, {})


@pytest.mark.parametrize("line", [b"", b"\n", b"[]\n", b"{\n", b'"do"\n', b"\xff\xfe\n", b"[" * 60000])
def test_what_is_no_request_gets_an_error(runtime, line):
    make_private(run_folder(25003))
    with Control(run_folder(25003) / "control.sock", lambda *_: {"n": 1}), connected(25003) as connection:
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        assert json.loads(connection.makefile().readline()) == {"error": "that is no JSON object"}


def test_a_long_task_learns_that_its_client_has_left(runtime):
    left = []

    def answer(_, client):
        client.tell({"n": 1})
        left.append(client.left.wait(60))
        return {"n": 2}

    make_private(run_folder(25004))
    with Control(run_folder(25004) / "control.sock", answer), connected(25004) as connection:
        lines = conversation(connection, {})
        assert next(lines) == {"n": 1}
        connection.shutdown(socket.SHUT_WR)
        assert next(lines) == {"n": 2}
    assert left == [True]


def test_a_folder_that_others_may_enter_is_refused(runtime):
    folder = run_folder(25005)
    make_private(folder)
    folder.parent.chmod(0o755)
    with pytest.raises(StartError, match="is not a folder of yours alone"):
        make_private(folder)


def test_a_launcher_that_was_killed_is_no_launcher(runtime, tmp_path, capsys):
    publish(tmp_path / "models", "one", plus(1), TINY_CONFIG)
    with Launcher(tmp_path / "models", tmp_path / "log", "--status-port=0") as launcher:
        os.kill(launcher.process.pid, signal.SIGKILL)
        launcher.process.wait()
        assert list(runtime.rglob("*.sock")) != []  # it is left behind
        assert main(["stop"]) == 1
        assert "no launcher of yours runs" in capsys.readouterr().err


def test_what_killed_launchers_left_is_removed_by_the_next(runtime, tmp_path):
    for port in (25006, 25007, 25008):
        make_private(run_folder(port))
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(run_folder(25006) / "control.sock"))
    (run_folder(25006) / "tls.pem").touch()  # of its gateway
    with Control(run_folder(25007) / "control.sock", lambda *_: {}):  # 25008 is about to serve
        assert main([str(tmp_path / "nothing to serve")]) == 1
        assert [*run_folders()] == [25007, 25008]


def test_a_socket_that_a_killed_launcher_left_is_none_of_the_next_one_that_starts(runtime):
    make_private(run_folder(25009))
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(run_folder(25009) / "control.sock"))
    make_private(run_folder(25009))
    assert list(run_folder(25009).iterdir()) == []
