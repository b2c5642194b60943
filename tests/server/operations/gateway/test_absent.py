"""A gateway without a launcher beside it, as in a cluster, asks the servers' own which models they lack."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from server.cli import main
from server.operations.gateway.keys import Grant
from server.operations.gateway.process import find_haproxy
from server.operations.gateway.runtime import Runtime
from tests import stateful
from tests.chaos.models import write_models, write_waiting
from tests.gateways import Tenants, ask, needs_haproxy
from tests.launcher import Launcher, get, write_model
from tests.ports import free_ports
from tests.processes import wait_until
from tests.traffic import Load

pytestmark = needs_haproxy

MODEL = "python_plus_one"
ENOUGH = 40


class Rendered:
    """HAProxy with what `gateway render` writes for these servers, HOST:HTTP:GRPC:STATUS."""

    def __init__(self, folder, tenants, repository, servers):
        ports = free_ports("gateway", "metrics")
        self.port, self.folder = ports["gateway"], folder
        command = ["gateway", "render", f"--output={folder}", f"--folder={folder}", "--address=127.0.0.1"]
        command += [f"--gateway-port={self.port}", f"--gateway-metrics-port={ports['metrics']}"]
        command += [f"--gateway-keys={tenants.file}", f"--model-repository={repository}"]
        command += [f"--server={server}" for server in servers]
        assert main(command) == 0
        config = folder / "haproxy.cfg"
        config.write_text(config.read_text().replace("socket /tmp/", f"socket {folder}/"))
        self.runtime = Runtime(folder / "haproxy.sock")

    def __enter__(self):
        command = [str(find_haproxy()), "-db", "-f", str(self.folder / "haproxy.cfg")]
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        wait_until(lambda: self._is_ready())
        return self

    def _is_ready(self):
        with contextlib.suppress(OSError):
            return ask(self.port, "GET", "/v2/health/ready")[0] == 200
        return False

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def elsewhere(self, backend):
        listed = self.runtime.ask("show map").splitlines()
        (table,) = (line.split()[0] for line in listed if f"elsewhere-{backend}.map)" in line)
        lines = self.runtime.ask(f"show map #{table}").splitlines()
        return {line.split()[1]: line.split()[2] for line in lines}


def server_of(launcher):
    return "127.0.0.1:" + ":".join(
        url.rpartition(":")[2] for url in (launcher.http, launcher.grpc, launcher.status)
    )


class StandIn(ThreadingHTTPServer):
    """Of a launcher and its tritonserver, which says its name to whatever it is asked.

    absent: its page; None where it has none. looks: how often that was asked for.
    """

    daemon_threads = True

    def __init__(self, name, host="127.0.0.1", port=0):
        self.name, self.absent, self.serves, self.looks = name, "", True, 0
        super().__init__((host, port), Stands)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """HAProxy hangs up once it has the status of a check."""

    @property
    def server(self):
        return f"{self.server_address[0]}:{self.server_port}:{self.server_port}:{self.server_port}"


class Stands(BaseHTTPRequestHandler):
    def do_GET(self):
        told, status = self.server.name, 200
        if self.path == "/absent":
            self.server.looks += 1
            told, status = (self.server.absent, 200) if self.server.absent is not None else ("", 404)
        elif self.path == "/serves" and not self.server.serves:
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told.encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def tenants(tmp_path):
    return Tenants(tmp_path / "keys", Grant("alice", rate=100_000, concurrency=1000))


def test_who_is_asked(tmp_path, tenants):
    write_models(tmp_path / "models")
    with StandIn("s1") as first, StandIn("s2") as second, StandIn("s3") as third:
        servers = [one.server for one in (first, second, third)]
        with Rendered(tmp_path / "gw", tenants, tmp_path / "models", servers) as gateway:

            def who(model=MODEL):
                path = f"/v2/models/{model}/ready"
                answers = [ask(gateway.port, "GET", path, tenants["alice"]) for _ in range(9)]
                return {body.decode() if status == 200 else status for status, _, body in answers}

            def becomes(**entries):
                wait_until(lambda: gateway.elsewhere("triton_http") == entries)

            wait_until(lambda: who() == {"s1", "s2", "s3"})
            first.absent = f"{MODEL} again\nother\n"
            becomes(**{MODEL: "s2,s3", "other": "s2,s3", "*": "s2,s3"})
            assert who() | who("other") <= {"s2", "s3"}
            assert who("plus_one") == {"s1", "s2", "s3"}
            second.serves = False
            becomes(**{MODEL: "s3", "other": "s3", "*": "s3"})
            assert who() == {"s3"}
            table = tmp_path / "gw" / "elsewhere-triton_http.map"
            gateway.runtime.tell(f"set map {table} {MODEL} s2,s3")  # as a launcher might that knows no better
            assert who() == {"s3"}
            gateway.runtime.tell(f"set map {table} {MODEL} ~s3")  # while it has room
            assert who() == {"s3"}
            gateway.runtime.tell(f"set map {table} {MODEL} ~s2")  # which is down
            assert who() == {"s1", "s3"}
            second.serves = True
            second.absent = third.absent = f"{MODEL}\n"
            becomes(**{MODEL: "-", "other": "s2,s3"})
            assert who() == {503}  # it is being loaded again on one of them
            first.absent = f"{MODEL}\n"
            becomes()
            assert who() == {"s1", "s2", "s3"}  # nobody has it, for good: tritonserver says why
            second.absent = third.absent = ""
            becomes(**{MODEL: "s2,s3", "*": "s2,s3"})


def test_a_sequence_stays_while_its_server_changes_the_model(tmp_path, tenants):
    write_model(tmp_path / "models", "counter", config=stateful.config())
    with StandIn("s1") as first, StandIn("s2") as second:
        servers = [first.server, second.server]
        with Rendered(tmp_path / "gw", tenants, tmp_path / "models", servers) as gateway:

            def step(sequence):
                tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}
                request = {"parameters": {"sequence_id": sequence}, "inputs": [tensor]}
                path, body = "/v2/models/counter/infer", json.dumps(request).encode()
                status, _, said = ask(gateway.port, "POST", path, tenants["alice"], body)
                assert status == 200, said
                return said.decode()

            places = {}

            def both_have_some():
                sequence = len(places) + 1
                places[sequence] = step(sequence)
                return {*places.values()} == {"s1", "s2"}

            wait_until(both_have_some)
            gateway.runtime.tell(f"add map {tmp_path}/gw/elsewhere-triton_http.map counter ~s2")
            assert {sequence: step(sequence) for sequence in places} == places
            assert {step(len(places) + more) for more in (1, 2, 3)} == {"s2"}  # others
            first.serves = False
            wait_until(lambda: {step(sequence) for sequence in places} == {"s2"})


def test_what_a_server_lacks_is_known_after_it_changed_places(tmp_path, tenants):
    """As servers behind a name may, of which each slot takes one address."""
    write_models(tmp_path / "models")
    with StandIn("a") as first, StandIn("b", "127.0.0.2", first.server_port) as second:
        servers = [first.server, second.server]
        with Rendered(tmp_path / "gw", tenants, tmp_path / "models", servers) as gateway:
            second.absent = f"{MODEL}\n"
            wait_until(lambda: gateway.elsewhere("triton_http") == {MODEL: "s1", "*": "s1"})
            second.absent = None  # what it has said stands
            gateway.runtime.ask("set server triton_http/s1 addr 127.0.0.2")
            gateway.runtime.ask("set server triton_http/s2 addr 127.0.0.1")
            enough = [server.looks + 3 for server in (first, second)]  # one may have been under way
            wait_until(lambda: first.looks >= enough[0] and second.looks >= enough[1])
            assert gateway.elsewhere("triton_http") == {MODEL: "s2", "*": "s2"}


@pytest.mark.slow
@pytest.mark.parametrize("servers", [2, 1])
def test_nobody_is_told_that_there_is_no_such_model(tmp_path, tenants, servers):
    write_waiting(tmp_path / "models", MODEL, count=1, seconds=0)
    with contextlib.ExitStack() as stack:
        launchers = [
            stack.enter_context(Launcher(tmp_path / "models", tmp_path / f"log{number}", "--status-port=0"))
            for number in range(servers)
        ]
        gateway = Rendered(tmp_path / "gw", tenants, tmp_path / "models", map(server_of, launchers))
        stack.enter_context(gateway)
        load = Load(gateway.port, tenants.keys["alice"], None, MODEL, rate=150, threads=6)
        try:
            wait_until(lambda: load.counted.answered > ENOUGH)
            (process,) = launchers[0].stubs(MODEL)
            os.kill(process, signal.SIGKILL)
            wait_until(lambda: gateway.elsewhere("triton_grpc"))
            others = "s2" if servers == 2 else "-"
            assert gateway.elsewhere("triton_http").get(MODEL, others) == others
            counter = f'triton_vision_model_restarts_total{{model="{MODEL}"}} 1\n'
            wait_until(lambda: counter in get(f"{launchers[0].status}/metrics")[1])
            wait_until(lambda: not gateway.elsewhere("triton_grpc"))
            again = load.counted.answered
            wait_until(lambda: load.counted.answered > again + ENOUGH)
        finally:
            counted = load.stop()
    print(counted)
    not_found = [reason for reason in counted.reasons if "404" in reason or "NOT_FOUND" in reason]
    assert not not_found, str(counted)
    refused = [reason for reason in counted.reasons if "being loaded again" in reason]
    assert not refused or servers == 1, str(counted)  # it may be served again before anybody asks


@pytest.mark.slow
def test_a_model_that_one_server_never_loaded_is_asked_of_the_other(tmp_path, tenants):
    whole, lacking = write_models(tmp_path / "whole"), write_models(tmp_path / "lacking")
    (lacking / MODEL / "1" / "model.py").write_text("raise ValueError('not here')")
    with (
        Launcher(whole, tmp_path / "log1", "--status-port=0") as first,
        Launcher(lacking, tmp_path / "log2", "--status-port=0") as second,
        Rendered(tmp_path / "gw", tenants, whole, map(server_of, (first, second))) as gateway,
    ):
        wait_until(lambda: gateway.elsewhere("triton_stream") == {MODEL: "s1", "*": "s1"})
        for _ in range(6):
            assert ask(gateway.port, "GET", f"/v2/models/{MODEL}/ready", tenants["alice"])[0] == 200
        first.process.terminate()  # now nobody has it, for good: tritonserver says why
        wait_until(lambda: not gateway.elsewhere("triton_http"))
        assert ask(gateway.port, "GET", f"/v2/models/{MODEL}", tenants["alice"])[0] in (400, 404)
