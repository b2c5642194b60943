"""The services of docker-compose.yml, tried without a container.

Each by its own command, health check and signals: Triton on the binary of the same release, HAProxy as it is
installed here. tests/containers runs the containers, where a Docker engine answers.
"""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.cli import main as server_main
from server.environment import installation
from server.operations.gateway.keys import Grant
from server.operations.gateway.process import find_haproxy
from tests import compose
from tests.conftest import ROOT
from tests.gateways import Tenants, needs_haproxy, write_models
from tests.gateways import ask as ask_gateway
from tests.held import Gate
from tests.ports import free_ports
from tests.processes import alive, descendants, unprivileged, wait_until
from tests.server.test_launcher import HELD_CONFIG, HELD_MODEL, ask, is_ready


@pytest.fixture(scope="module")
def services():
    return compose.load(ROOT / "docker-compose.yml", {})["services"]


@pytest.fixture
def container_like(tmp_path, monkeypatch):
    """A `tritonserver` on PATH, as in the container; below it is pip Triton's binary with our backends."""
    pip = installation._pip_installation()
    backends = tmp_path / "opt/tritonserver/backends"
    for name, source in pip.backends.items():
        (backends / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, backends / name)
    binary = tmp_path / "opt/tritonserver/bin/tritonserver"
    binary.parent.mkdir()
    exports = "".join(f"export {name}='{value}'\n" for name, value in pip.environment.items())
    binary.write_text(f'#!/bin/sh\n{exports}exec {pip.binary} --backend-directory={backends} "$@"\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent), prepend=":")
    assert installation.find_installation().kind == "container"


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def repository(tmp_path, gate):
    """A repository that nobody may write. Its model holds requests at the gate."""
    version = tmp_path / "models" / "held" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(gate.code + HELD_MODEL)
    (version.parent / "config.pbtxt").write_text(HELD_CONFIG)
    folders = (version, version.parent, version.parent.parent)
    for path in folders:
        path.chmod(0o555)
    yield tmp_path / "models"
    for path in folders:
        path.chmod(0o755)


@pytest.mark.slow
def test_the_service_starts_is_healthy_drains_and_stops(services, container_like, repository, gate):
    """Its own command, health check and stop signal, without rights, on the binary of the same release."""
    triton = services["triton"]
    swap = {"python3": sys.executable, "/models": str(repository), "0.0.0.0": "127.0.0.1"}
    command = [swap.get(word, word) for word in triton["command"]]
    command += [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    started = subprocess.Popen(
        [*unprivileged(), *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        lines = []
        for line in started.stdout:
            lines.append(line.strip())
            if "Ctrl-C" in line or "Not all models" in line:
                break
        assert lines[0].startswith("Triton (container) serves")
        urls = {line.split()[0]: line.split()[1] for line in lines if line.split()[0] in ("status", "gRPC")}
        ready = "http://127.0.0.1:8003/ready"
        check = [word.replace(ready, urls["status"]) for word in triton["healthcheck"]["test"]]
        assert check.pop(0) == "CMD"
        assert subprocess.run(check, check=False).returncode == 0

        pids = descendants(started.pid)
        with ThreadPoolExecutor() as threads, gate.closed():
            request = threads.submit(ask, urls["gRPC"], 3.0)
            gate.wait_until_held()
            started.send_signal(getattr(signal, triton["stop_signal"]))
            wait_until(lambda: not is_ready(urls["gRPC"]))
            gate.open()
            assert request.result() == 3.0
        assert started.wait() == 0
        assert alive(pids) == []
        assert subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode != 0
        if unprivileged():
            assert {path.name for path in repository.rglob("*")} == {"held", "1", "model.py", "config.pbtxt"}
    finally:
        started.terminate()
        started.wait()


def test_the_page_starts_is_healthy_and_stops(services):
    """Its own command, health check and stop signal, without rights; the server is away."""
    web = services["web"]
    assert web["command"][0] == "triton-vision"  # of the wheel, tests/client/test_wheel.py
    command = [word if word != "0.0.0.0" else "127.0.0.1" for word in web["command"][1:]]
    page = [*unprivileged(), sys.executable, "-m", "client", *command, "--port=0", "--json"]
    with subprocess.Popen(page, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        try:
            url = json.loads(started.stdout.readline())["page"]
            ((_, _, inside),) = compose.published_ports(web)
            said = f"http://127.0.0.1:{inside}/"
            assert said in web["healthcheck"]["test"][-1]
            check = [word.replace(said, url) for word in web["healthcheck"]["test"][1:]]
            assert check[0] == "python"
            check[0] = sys.executable
            assert subprocess.run(check, check=False).returncode == 0
        finally:
            started.terminate()
        assert started.wait() == 0
        assert subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode != 0


@pytest.fixture
def short_folder():
    """A socket's path is short."""
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        yield folder


def is_reloaded(started, port, headers):
    """Told so again after a while: a signal that comes before HAProxy's master has come up is lost."""
    started.send_signal(signal.SIGUSR2)
    for _ in range(100):
        if ask_gateway(port, "GET", "/v2", headers)[0] == 503:
            return True
        time.sleep(0.05)
    return False


@needs_haproxy
def test_the_gateway_starts_is_healthy_reloads_and_stops(services, tmp_path, short_folder, monkeypatch):
    """Its own command, health check and signals, without rights, on what the page's command writes for it."""
    gateway = services["gateway"]
    (mount,) = gateway["volumes"]
    page = (ROOT / "docs/how-to/gateway.md").read_text()
    (written,) = re.findall(r"^python -m server (gateway render .*deploy/gateway .*)$", page, re.M)
    output = tmp_path / "gateway"
    ports = free_ports("gateway", "metrics")
    swap = {"deploy/gateway": str(output), "triton:8000:8001:8003": "127.0.0.1:1:1:1"}
    command = [swap.get(word, word) for word in shlex.split(written)]
    command += [
        f"--folder={output}",
        f"--gateway-port={ports['gateway']}",
        f"--model-repository={tmp_path / 'm'}",
    ]
    command += [f"--gateway-metrics-port={ports['metrics']}", "--address=127.0.0.1", "--resolver=system"]
    write_models(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    tenants = Tenants(tmp_path / "gateway-keys.txt")
    assert server_main(command) == 0
    config = output / "haproxy.cfg"
    config.write_text(config.read_text().replace("/tmp/haproxy.sock", f"{short_folder}/one.sock"))
    inside = [port for *_, port in compose.published_ports(gateway)]
    assert inside == ["8443", "8404"]
    assert f"{mount['target']}/haproxy.cfg" == gateway["command"][-1]
    start = [*unprivileged(), str(find_haproxy()), *gateway["command"][1:-1], str(config)]
    check = [word.replace("/8404", f"/{ports['metrics']}") for word in gateway["healthcheck"]["test"][1:]]
    with subprocess.Popen(start, stdout=subprocess.DEVNULL) as started:
        try:
            wait_until(lambda: subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode == 0)
            more = Tenants(tmp_path / "gateway-keys.txt", Grant("alice"))
            assert ask_gateway(ports["gateway"], "GET", "/v2", more["alice"])[0] == 401
            assert server_main(command) == 0
            config.write_text(config.read_text().replace("/tmp/haproxy.sock", f"{short_folder}/two.sock"))
            wait_until(lambda: is_reloaded(started, ports["gateway"], more["alice"]))
            assert tenants.keys == {}
        finally:
            stop = getattr(signal, gateway["stop_signal"])
            wait_until(
                lambda: started.send_signal(stop) or started.poll() is not None
            )  # one that comes while it reloads is lost
        assert started.wait() in (0, 128 + signal.SIGUSR1, 143)
        assert subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode != 0
