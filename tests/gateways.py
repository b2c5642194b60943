"""Gateways for tests: HAProxy alone, with no server behind it, or `python -m server --gateway`."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http_triton
from onnx import helper

from server.errors import InstallationError
from server.operations.gateway.gateway import Gateway
from server.operations.gateway.keys import Grant, new_key
from server.operations.gateway.process import find_haproxy
from server.operations.gateway.settings import Settings
from tests import stateful
from tests.conftest import ROOT
from tests.graphs import FLOAT, graph, publish
from tests.launcher import Launcher
from tests.ports import free_ports

SECRET = "a-secret-of-at-least-32-characters"


def has_haproxy():
    with contextlib.suppress(InstallationError):
        return bool(find_haproxy())
    return False


needs_haproxy = pytest.mark.skipif(
    not has_haproxy(), reason="no HAProxy 2.6 or newer: apt-get install haproxy"
)

TINY = graph(
    [helper.make_node("Add", ["x", "one"], ["y"])],
    [("x", FLOAT, ["n", 1])],
    [("y", FLOAT, ["n", 1])],
    [("one", np.array(1, np.float32))],
)
TINY_CONFIG = """
backend: "onnxruntime" max_batch_size: 64
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { kind: KIND_CPU }
dynamic_batching { }
"""


def write_models(repository: Path) -> Path:
    """tiny: y = x + 1. counter: y is the sum of a sequence."""
    publish(repository, "tiny", TINY, TINY_CONFIG)
    lines = "\n".join(line.strip() for line in stateful.config().splitlines())
    publish(repository, "counter", stateful.accumulator(), f'backend: "onnxruntime"\n{lines}')
    return repository


def token(secret=SECRET, algorithm="HS256", **claims) -> str:
    """A JWT, signed with HMAC-SHA256 whatever `algorithm` says of itself."""

    def part(value: dict) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    text = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}"
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


class Tenants:
    """A file of keys, and the keys."""

    def __init__(self, file: Path, *grants: Grant):
        self.file, self.keys, lines = file, {}, []
        for grant in grants:
            self.keys[grant.tenant], digest = new_key()
            lines.append(Grant(grant.tenant, digest, grant.rate, grant.concurrency, grant.admin).line())
        file.write_text("".join(f"{line}\n" for line in lines))

    def __getitem__(self, tenant: str) -> dict[str, str]:
        """Headers that the tenant sends."""
        return {"x-api-key": self.keys[tenant]}


@contextlib.contextmanager
def alone(tenants: Tenants, repository: Path, log: Path, **settings):
    """HAProxy without a server, on free ports: whoever is let in is told that none is ready, by 503."""
    free = free_ports("gateway", "gateway-metrics")
    ports = {"port": free["gateway"], "metrics_port": free["gateway-metrics"]}
    with (
        tempfile.TemporaryDirectory(prefix="gw") as short,
        open(log, "ab") as descriptor,
    ):  # a socket's path is short
        folder = Path(short) / "gateway" / "run"
        chosen = Settings(folder, **{**ports, **settings})
        folder.parent.mkdir(mode=0o700)
        gateway = Gateway(chosen, tenants.file, lambda: {repository: 0}, log=descriptor.fileno())
        try:
            gateway.start({})
            yield gateway
        finally:
            gateway.stop()


def ask(port: int, method: str, path: str, headers=None, body=None, connection=None):
    """Status, headers in lower case, and body; the path is sent as it is."""
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    with connection.getresponse() as answer:
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


class Served(Launcher):
    """`python -m server --gateway`, once it serves. port, metrics: of the gateway."""

    def __init__(
        self, repository: Path, log: Path, tenants: Tenants, *arguments: str, servers: int = 2, **variables
    ):
        self.tenants, self.access = tenants, log.with_suffix(".access")
        options = [
            "--gateway",
            f"--servers={servers}",
            "--gateway-port=0",
            "--gateway-metrics-port=0",
            "--status-port=0",
        ]
        options += [f"--gateway-keys={tenants.file}", f"--gateway-log={self.access}"]
        super().__init__(repository, log, *options, *arguments, **variables)

    def __enter__(self) -> "Served":
        super().__enter__()
        told = [line.split() for line in self.lines]
        (self.url,) = (words[1] for words in told if words[:1] == ["gateway"])
        (self.metrics,) = (words[1] for words in told if words[:1] == ["metrics"])
        self.port = int(self.url.rpartition(":")[2])
        self.target = f"127.0.0.1:{self.port}"
        return self

    def infer(
        self, value: float, tenant: str = "alice", kind: str = "grpc", model: str = "tiny", **options
    ) -> float:
        triton = grpc if kind == "grpc" else http_triton
        tensor = triton.InferInput("x", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.array([[value]], np.float32))
        with triton.InferenceServerClient(self.target) as client:
            return (
                client.infer(model, [tensor], headers=dict(self.tenants[tenant]), **options)
                .as_numpy("y")
                .item()
            )

    def logged(self) -> list[dict]:
        return [json.loads(line) for line in self.access.read_text().splitlines()]


class Load(threading.Thread):
    """Requests to `tiny`, without retries, until `stop()`; answers are checked. counts: what came of them."""

    def __init__(self, served: Served, kind: str):
        super().__init__(daemon=True)
        self.counts: Counter[str] = Counter()
        self._served, self._kind, self._ended = served, kind, threading.Event()
        self.start()

    def run(self) -> None:
        triton = grpc if self._kind == "grpc" else http_triton
        headers = self._served.tenants["alice"]
        with triton.InferenceServerClient(self._served.target) as client:
            while not self._ended.is_set():
                value = float(self.counts.total() % 1000)
                tensor = triton.InferInput("x", [1, 1], "FP32")
                tensor.set_data_from_numpy(np.array([[value]], np.float32))
                try:
                    right = (
                        client.infer("tiny", [tensor], headers=dict(headers)).as_numpy("y").item()
                        == value + 1
                    )
                    self.counts["answered" if right else "wrong"] += 1
                except Exception as error:
                    self.counts[f"{self._kind}, {time.strftime('%X')}: {error!r}"] += 1

    def stop(self) -> Counter[str]:
        self._ended.set()
        self.join()
        return self.counts


def gateway_command(served: Served, *arguments: str) -> list[str]:
    """`python -m server gateway`, to this one, in JSON."""
    command = [sys.executable, "-m", "server", "gateway", *arguments]
    return [*command, f"--gateway-port={served.port}", "--json"]


def told_by(served: Served, *arguments: str) -> dict:
    """What `gateway_command` prints."""
    command = gateway_command(served, *arguments)
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@contextlib.contextmanager
def load(served: Served, threads: int = 4):
    """Within, there is steady load over both interfaces. Yields its counts, complete once it has left."""
    running = [Load(served, kind) for kind in ("grpc", "http") for _ in range(threads // 2)]
    counts: Counter[str] = Counter()

    def so_far() -> int:
        return sum(each.counts.total() for each in running)

    counts_and_total = (counts, so_far)
    try:
        yield counts_and_total
    finally:
        for each in running:
            counts.update(each.stop())


def kill_tritonserver(guard: int) -> None:
    """What the guard of a server, of which `gateway status` tells, has started."""
    children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
    os.kill(int(children[0]), 9)
