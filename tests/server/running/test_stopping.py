"""What a stop waits for: requests in flight, and nothing else; and that it is the end."""

import contextlib
import ctypes
import json
import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from server import Supervisor, TritonServer
from server.environment.ports import listens
from server.running import process
from tests.conftest import ROOT
from tests.held import Gate
from tests.launcher import ECHO, Launcher, write_model
from tests.processes import alive, descendants, halt, wait_for_line, wait_until

WAITED_FOR = "HTTP service connections"  # once a second, while tritonserver stops


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def server(tmp_path, gate):
    code = gate.code + ECHO.replace("        tensors", "        pass_gate()\n        tensors", 1)
    write_model(tmp_path / "models", "echo", code)
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as running:
        yield running


@pytest.fixture
def asked(server, gate):
    """A request that stands at the gate: the function that waits for its answer."""
    connection = HTTPConnection(server.http_url)  # which stays open between requests
    inputs = [{"name": "x", "shape": [1], "datatype": "FP32", "data": [7]}]

    def ask():
        connection.request("POST", "/v2/models/echo/infer", json.dumps({"inputs": inputs}))
        (output,) = json.loads(connection.getresponse().read())["outputs"]
        return output["data"]

    with ThreadPoolExecutor() as pool, closing(connection), gate.closed():
        request = pool.submit(ask)
        gate.wait_until_held()
        yield request.result


@pytest.mark.slow
def test_a_connection_between_two_requests_does_not_hold_it_up(server, gate, asked):
    gate.open()
    assert asked() == [7]
    assert server.stop() == 0  # 1 if it had to be given up, as for tritonserver alone


@pytest.mark.slow
def test_a_request_in_flight_is_answered_however_quiet_its_connection(server, gate, asked, tmp_path):
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    wait_until(
        lambda: (tmp_path / "log").read_text().count(WAITED_FOR) > 5
    )  # longer than the guard's QUIET_S
    gate.open()
    assert asked() == [7]
    stopping.join()
    assert server.stop() == 0


@pytest.mark.slow
def test_half_a_request_and_a_quiet_client_do_not_hold_it_up(server):
    """Of a client whose last answer came in the same tick of the kernel's clock as its request, too."""
    with contextlib.ExitStack() as stack:
        quiet = stack.enter_context(closing(HTTPConnection(server.http_url)))
        quiet.request("GET", "/v2/health/live")
        quiet.getresponse().read()
        halves = [stack.enter_context(closing(HTTPConnection(server.http_url))) for _ in range(50)]
        for half in halves:
            half.putrequest("POST", "/v2/models/echo/infer")
            half.putheader("Content-Length", "100000")
            half.endheaders(b"{")
        assert server.stop() == 0  # 1 if it had to be given up


@pytest.mark.slow
def test_the_second_half_of_a_request_is_answered(server, tmp_path):
    with closing(HTTPConnection(server.http_url)) as connection, ThreadPoolExecutor() as pool:
        connection.putrequest("POST", "/v2/models/echo/infer")
        connection.putheader("Content-Length", "6000000")
        connection.endheaders(bytes(3_000_000))
        stopped = pool.submit(server.stop)
        connection.send(bytes(2_900_000))
        wait_until(lambda: WAITED_FOR in (tmp_path / "log").read_text())
        connection.send(bytes(100_000))
        assert connection.getresponse().status == 503
        assert stopped.result() == 0


def ask_until_refused(url, begun, path="/v2/models/echo/infer", gap_s=0.0, fresh=False):
    """Status codes of requests on one connection, until the server ends it; or on fresh ones."""
    statuses = []
    inputs = [{"name": "x", "shape": [1], "datatype": "FP32", "data": [7]}]
    asked = ("POST", path, json.dumps({"inputs": inputs})) if path.endswith("infer") else ("GET", path)
    with closing(HTTPConnection(url)) as connection:
        while not statuses or statuses[-1] == 200:
            connection.request(*asked)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
            begun.set()
            if fresh:
                connection.close()  # the next request opens it again
            time.sleep(gap_s)  # as one that looks every now and then
    return statuses


def test_clients_that_go_on_asking_are_told_and_lose_nothing(tmp_path):
    """A request that came just as its connection was closed would end with an exception here, and a client
    that is always just between two requests would be served until tritonserver gives up."""
    write_model(tmp_path / "models", "echo")
    asking = [()] * 4 + [
        ("/v2/health/ready", 0.5),
        ("/v2/models/echo/stats", 0.05),
        ("/v2/models/echo", 0.01),
        ("/v2/models/echo/infer", 0.0, True),
    ]
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server, ThreadPoolExecutor(8) as pool:
        begun = [threading.Event() for _ in asking]
        clients = [
            pool.submit(ask_until_refused, server.http_url, event, *how)
            for event, how in zip(begun, asking, strict=True)
        ]
        for event in begun:
            event.wait()
        assert server.stop() == 0
        for client in clients:
            assert set(client.result()) == {200, 503}
            assert client.result().count(503) == 1


LIVE = ("GET", "/v2/health/live")


def test_clients_that_tritonserver_has_not_taken_up_lose_nothing(tmp_path):
    """As on a busy machine: it is told to stop before any of its threads has run since they came."""
    write_model(tmp_path / "models", "echo")
    with (
        TritonServer(tmp_path / "models", log=tmp_path / "log") as server,
        ThreadPoolExecutor() as pool,
        contextlib.ExitStack() as stack,
    ):
        asking, silent = (
            [stack.enter_context(closing(HTTPConnection(server.http_url))) for _ in range(count)]
            for count in (200, 20)
        )
        tritonserver = descendants(server.pid)[0]
        halt(tritonserver)
        for client in silent:
            client.connect()
        for client in asking:
            client.request(*LIVE)
        stopped = pool.submit(server.stop)
        assert {client.getresponse().status for client in asking} <= {200, 503}
        wait_for_line(tmp_path / "log", "Waiting for in-flight requests")  # those are closed for tritonserver
        for client in silent:
            client.request(*LIVE)
            assert client.getresponse().status == 503
        assert stopped.result() == 0


def defer_accepting(pid, port):
    """A connection to this process is made only once the client sends something."""
    pidfd = os.pidfd_open(pid)
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(link).startswith("socket:"):
            copied = ctypes.CDLL(None).syscall(438, pidfd, int(link.name), 0)  # pidfd_getfd
            with socket.socket(fileno=copied) as one:
                if one.family == socket.AF_INET and one.getsockname()[1] == port:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
    os.close(pidfd)


def test_a_client_that_is_connecting_loses_nothing(tmp_path):
    """Over a network that takes a while: the server knows of the client before the client may send."""
    write_model(tmp_path / "models", "echo")
    with (
        TritonServer(tmp_path / "models", log=tmp_path / "log") as server,
        ThreadPoolExecutor() as pool,
        closing(HTTPConnection(server.http_url)) as client,
    ):
        port = int(server.http_url.rpartition(":")[2])
        defer_accepting(descendants(server.pid)[0], port)
        client.connect()
        stopped = pool.submit(server.stop)
        wait_until(lambda: listens([server.pid], port))  # the guard, which takes over
        client.request(*LIVE)
        assert client.getresponse().status in (200, 503)
        client.close()
        assert stopped.result() == 0


@pytest.mark.slow
def test_where_no_connection_can_be_taken_over_the_launcher_says_so(tmp_path):
    write_model(tmp_path / "models", "echo")
    seccomp = (sys.executable, str(ROOT / "tests" / "seccomp.py"), "pidfd_getfd")
    with (
        Launcher(tmp_path / "models", tmp_path / "log", prefix=seccomp) as launcher,
        closing(HTTPConnection(launcher.http.removeprefix("http://"))) as connection,
    ):
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        launcher.process.terminate()
        wait_for_line(tmp_path / "log", "pidfd_getfd is refused")


def test_a_stop_ends_a_restart_that_has_begun(tmp_path, monkeypatch):
    write_model(tmp_path / "models", "echo")
    begun, go, done = threading.Event(), threading.Event(), []

    class Held(process.TritonRun):
        def __init__(self, *arguments):
            begun.set()
            go.wait()
            super().__init__(*arguments)
            done.append("started")

    server = TritonServer(tmp_path / "models", log=tmp_path / "log").start()
    monkeypatch.setattr(process, "TritonRun", Held)
    supervisor = Supervisor(server)
    watching = threading.Thread(target=supervisor.watch)
    watching.start()
    server.run.kill()  # as if it had died by itself
    begun.wait()
    stopping = threading.Thread(target=lambda: (server.stop(), done.append("stopped")))
    stopping.start()
    wait_until(lambda: server.stopped)
    go.set()
    stopping.join()
    assert done == ["started", "stopped"]
    assert not alive([server.pid])
    watching.join()
    assert supervisor.server_restarts == 0
    assert server.wait(0) is not None


@pytest.mark.slow
def test_several_may_stop_it_at_once(server):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as pool:
            assert {stop.result() for stop in [pool.submit(server.stop) for _ in range(16)]} == {0}
    finally:
        sys.setswitchinterval(interval)


def test_an_interrupt_in_the_midst_of_looking_at_the_guard_leaves_an_end(server):
    server.run._guard._waitpid_lock.acquire()  # as subprocess leaves it if a signal raises just there
    assert server.stop() == 0
    assert server.run.ending() == ""  # by itself, it did not
