"""A gateway without a launcher beside it, as in a cluster, asks the servers' own which models they lack."""

import contextlib
import os
import signal
import subprocess

import pytest

from server.cli import main
from server.environment.ports import choose_ports
from server.operations.gateway.keys import Grant
from server.operations.gateway.process import find_haproxy
from server.operations.gateway.runtime import Runtime
from tests.chaos.models import write_models, write_waiting
from tests.gateways import Tenants, ask, needs_haproxy
from tests.launcher import Launcher, get
from tests.processes import wait_until
from tests.traffic import Load

pytestmark = [needs_haproxy, pytest.mark.slow]

MODEL = "python_plus_one"
ENOUGH = 40


class Rendered:
    """HAProxy with what `gateway render` writes for these launchers; `names` gives it a resolver."""

    def __init__(self, folder, tenants, repository, launchers):
        ports = choose_ports("127.0.0.1", {"gateway": 0, "metrics": 0})
        self.port, self.folder = ports["gateway"], folder
        command = ["gateway", "render", f"--output={folder}", f"--folder={folder}", "--address=127.0.0.1"]
        command += [f"--gateway-port={self.port}", f"--gateway-metrics-port={ports['metrics']}"]
        command += [f"--gateway-keys={tenants.file}", f"--model-repository={repository}"]
        for launcher in launchers:
            numbers = (url.rpartition(":")[2] for url in (launcher.http, launcher.grpc, launcher.status))
            command.append(f"--server=127.0.0.1:{':'.join(numbers)}")
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


@pytest.fixture
def tenants(tmp_path):
    return Tenants(tmp_path / "keys", Grant("alice", rate=100_000, concurrency=1000))


@pytest.mark.parametrize("servers", [2, 1])
def test_nobody_is_told_that_there_is_no_such_model(tmp_path, tenants, servers):
    write_waiting(tmp_path / "models", MODEL, count=1, seconds=0)
    with contextlib.ExitStack() as stack:
        launchers = [
            stack.enter_context(Launcher(tmp_path / "models", tmp_path / f"log{number}", "--status-port=0"))
            for number in range(servers)
        ]
        gateway = Rendered(tmp_path / "gw", tenants, tmp_path / "models", launchers)
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
    assert bool(refused) is (servers == 1), str(counted)


def test_a_model_that_one_server_never_loaded_is_asked_of_the_other(tmp_path, tenants):
    whole, lacking = write_models(tmp_path / "whole"), write_models(tmp_path / "lacking")
    (lacking / MODEL / "1" / "model.py").write_text("raise ValueError('not here')")
    with (
        Launcher(whole, tmp_path / "log1", "--status-port=0") as first,
        Launcher(lacking, tmp_path / "log2", "--status-port=0") as second,
        Rendered(tmp_path / "gw", tenants, whole, [first, second]) as gateway,
    ):
        wait_until(lambda: gateway.elsewhere("triton_stream") == {MODEL: "s1", "*": "s1"})
        for _ in range(6):
            assert ask(gateway.port, "GET", f"/v2/models/{MODEL}/ready", tenants["alice"])[0] == 200
        first.process.terminate()  # now nobody has it, for good: tritonserver says why
        wait_until(lambda: not gateway.elsewhere("triton_http"))
        assert ask(gateway.port, "GET", f"/v2/models/{MODEL}", tenants["alice"])[0] in (400, 404)
