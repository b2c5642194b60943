"""The launcher's own port while a server starts: what a health check waits for, and what it need not."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from server import Supervisor, TritonServer
from server.watching.status_page import StatusPage
from tests.conftest import ROOT
from tests.launcher import CONFIG, get, write_model
from tests.ports import free_ports
from tests.processes import descendants, wait_until


@pytest.fixture
def supervisor(tmp_path):
    """Of a server that is about to be started."""
    write_model(tmp_path / "models", "echo")
    return Supervisor(TritonServer(tmp_path / "models"))


def test_a_check_waits_until_the_start_is_over(supervisor):
    with StatusPage(supervisor, "127.0.0.1", 0) as page, ThreadPoolExecutor() as pool:
        asked = pool.submit(get, f"{page.url}/ready?wait=50000")
        wait_until(lambda: page._clients._value < 16)  # it has been taken
        status, text = get(f"{page.url}/ready")
        assert (status, json.loads(text)["troubles"]) == (503, {"tritonserver": "is starting"})
        assert not asked.done()
        supervisor.starting = False
        status, text = asked.result()
        assert (status, json.loads(text)["troubles"]) == (503, {"tritonserver": "the server was not started"})


def test_it_does_not_wait_for_a_model_that_was_never_exported(supervisor, tmp_path):
    (tmp_path / "models" / "empty").mkdir()
    (tmp_path / "models" / "empty" / "config.pbtxt").write_text(CONFIG)
    with StatusPage(supervisor, "127.0.0.1", 0) as page:
        status, text = get(f"{page.url}/ready?wait=50000")
    assert status == 503
    assert json.loads(text)["troubles"]["empty"] == "nothing to load; run `python -m export empty`"


@pytest.mark.parametrize("query", ["", "?", "?wait=0", "?wait=-1", "?wait=x", "?await=50000", "?wait=100000"])
def test_other_questions_are_answered_at_once(supervisor, query):
    with StatusPage(supervisor, "127.0.0.1", 0) as page:
        assert get(f"{page.url}/ready{query}")[0] == 503


@pytest.mark.slow
def test_a_balancer_sends_nobody_to_a_server_that_is_being_started_again(tmp_path):
    """Some of its models are only not loaded yet, and would be told of as missing."""
    for name in ("echo", "loose"):
        write_model(tmp_path / "models", name)
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:
        supervisor = Supervisor(server)
        supervisor.starting = False
        supervisor.troubles = lambda: {"loose": "is not loaded"}
        server.missing = supervisor.troubles
        with StatusPage(supervisor, "127.0.0.1", 0) as page:
            assert get(f"{page.url}/serves")[0] == 200
            supervisor._starting_again = True
            assert get(f"{page.url}/serves")[0] == 503


TELLS = """
import os, sys
from server.cli import main
from server.operations.serving import serving
from tests.launcher import get

def say(server, page, gateway):
    os.write(1, str(get(f"{page.url}/started")[0]).encode())
    raise KeyboardInterrupt

serving.say_what_is_served = say
sys.exit(main(sys.argv[1:]))
"""


def command(repository, *words):
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    return [sys.executable, *words, "--model-repository", str(repository), *ports]


@pytest.mark.slow
def test_it_has_started_before_it_says_so(tmp_path):
    write_model(tmp_path / "models", "echo")
    done = subprocess.run(
        command(tmp_path / "models", "-c", TELLS), cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout == b"200"


@pytest.mark.slow
def test_a_launcher_that_nobody_reads_watches(tmp_path):
    write_model(tmp_path / "models", "echo")
    (port,) = free_ports("status").values()
    page = f"http://127.0.0.1:{port}"
    read_end, write_end = os.pipe()
    os.write(write_end, bytes(fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ)))  # it is full
    words = [*command(tmp_path / "models", "-m", "server"), f"--status-port={port}"]
    with open(tmp_path / "log", "w") as log:
        launcher = subprocess.Popen(words, cwd=ROOT, stdout=write_end, stderr=log)
    os.close(write_end)
    try:
        wait_until(lambda: get(f"{page}/ready?infer=echo")[0] == 200)
        guard = descendants(launcher.pid)[0]
        os.kill(descendants(guard)[0], signal.SIGKILL)
        wait_until(lambda: "triton_vision_tritonserver_restarts_total 1" in get(f"{page}/metrics")[1])
        wait_until(lambda: get(f"{page}/ready?infer=echo")[0] == 200)
    finally:
        launcher.terminate()
        assert launcher.wait() == 0
        os.close(read_end)


def test_what_was_said_while_it_started_is_not_said_again(supervisor, monkeypatch):
    with StatusPage(supervisor, "127.0.0.1", 0) as page:
        assert page.troubles() == {"tritonserver": "is starting"}
        supervisor.starting = False
        monkeypatch.setattr(supervisor, "troubles", dict)
        assert not page.troubles()


def test_it_is_not_ready_before_all_is_started(supervisor, monkeypatch):
    """A gateway of `--tfserving` comes after the models."""
    monkeypatch.setattr(supervisor.server, "missing", dict)
    monkeypatch.setattr(supervisor, "_is_changing", lambda: True)
    assert supervisor.troubles() == {"tritonserver": "is starting"}
    supervisor.starting = False
    assert not supervisor.troubles()
