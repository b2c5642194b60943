"""The chart's probes, order and times, exercised: no request is lost while pods come, go and die."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import numpy as np
import onnx
import pytest

from server.environment.ports import claimed
from server.errors import PortInUseError
from tests.certificates import self_signed
from tests.chaos.fleet import stubs
from tests.chaos.models import write_waiting
from tests.conftest import ROOT
from tests.gateways import needs_haproxy
from tests.graphs import FLOAT, graph, publish
from tests.kubernetes.cluster import Deployment, NameServer
from tests.kubernetes.gateways import Gateways
from tests.kubernetes.tools import example, only, rendered
from tests.processes import wait_until
from tests.traffic import Load

pytestmark = needs_haproxy
RATE = 150  # requests per second: two cores are shared with all servers
MODEL, PYTHON_MODEL = "plus_one", "python_plus_one"
CONFIG = """
backend: "onnxruntime"
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { kind: KIND_CPU count: 1 }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""


@contextmanager
def free_base():
    """Ports BASE to BASE + 3 of every loopback address are free, and nobody else who asks this gets them."""
    for base in range(23000, 23990, 10):
        with ExitStack() as stack:
            try:
                for offset in (0, 1, 2, 3):
                    with socket.socket() as one:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        one.bind(("", base + offset))
                stack.enter_context(claimed("127.0.0.1", base))
            except (OSError, PortInUseError):
                continue
            yield base
            return
    pytest.skip("no free ports from 23000 to 23990")


@pytest.fixture
def cluster(tmp_path):
    """A function: with so many servers behind the gateway, a Deployment and a function that begins a load.

    It takes the model that is asked, too: PYTHON_MODEL, of one process, is there where it is.
    """
    objects = rendered(example("gateway"), f"readiness.model={MODEL}")
    models, folder = tmp_path / "models", tmp_path / "gateway"
    one = [("one", np.array([1], np.float32))]
    nodes = [onnx.helper.make_node("Add", ["x", "one"], ["y"])]
    publish(models, MODEL, graph(nodes, [("x", FLOAT, [1])], [("y", FLOAT, [1])], one), CONFIG)
    folder.mkdir()
    chain, key = self_signed(tmp_path)
    shutil.copy(chain, folder / "tls.crt")
    shutil.copy(key, folder / "tls.key")
    keys = [sys.executable, "-m", "server", "keys", "add", "load", "--rate=100000", "--concurrency=1000"]
    added = subprocess.run(
        [*keys, f"--gateway-keys={folder / 'gateway-keys.txt'}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    with ExitStack() as stack:
        base = stack.enter_context(free_base())

        def enter(servers, model=MODEL):
            if model == PYTHON_MODEL:
                write_waiting(models, model, count=1, seconds=0)
            deployment = stack.enter_context(
                Deployment(only(objects, "Deployment", "server"), models, base, tmp_path)
            )
            names = stack.enter_context(NameServer(deployment.addresses))
            deployment.scale(servers)
            gateways = stack.enter_context(
                Gateways(only(objects, "Deployment", "gateway"), folder, models, base, names.port)
            )
            key = added.stdout.strip()
            return deployment, gateways, lambda: Load(gateways.port, key, folder / "tls.crt", model, RATE)

        yield enter


def run(cluster, requests, servers, change):
    """Under load: some of it before, the change, and so many requests in all. What became of them."""
    deployment, gateways, begin = cluster(servers)
    load = begin()
    wait_until(lambda: load.counted.sent >= requests // 20)
    change(deployment, gateways)
    wait_until(lambda: load.counted.sent >= requests)
    counted = load.stop()
    print(counted)
    assert counted.refused == counted.lost == 0, counted
    assert counted.sent == counted.answered >= requests
    return deployment


@pytest.mark.long
def test_one_more_and_one_less(cluster):
    def change(deployment, _):
        deployment.scale(2)
        deployment.scale(1)

    deployment = run(cluster, 2000, 1, change)
    gone = deployment.pods[1]
    assert gone.gone
    assert not gone.killed
    assert not gone.restarts
    said = gone.events
    assert said.index("has started") < said.index("ready") < said.index("is terminated")
    assert said.index("is terminated") < said.index("SIGTERM") < said.index("gone")
    assert "draining: not ready from now on" in gone.log.read_text()


@pytest.mark.long
def test_a_rolling_update(cluster):
    deployment = run(cluster, 20000, 2, lambda deployment, _: deployment.update())
    assert [pod.gone for pod in deployment.pods] == [True, True, False, False]
    assert not any(pod.killed or pod.restarts for pod in deployment.pods)


@pytest.mark.long
def test_a_node_is_lost(cluster):
    deployment = run(cluster, 20000, 2, lambda deployment, _: deployment.lose_a_node())
    assert [pod.lost for pod in deployment.pods] == [True, False, False]


@pytest.mark.long
def test_one_then_four_then_one(cluster):
    def change(deployment, _):
        deployment.scale(4)
        deployment.scale(1)

    deployment = run(cluster, 20000, 1, change)
    assert sum(pod.gone for pod in deployment.pods) == 3
    assert not any(pod.killed or pod.restarts for pod in deployment.pods)


@pytest.mark.long
def test_a_rolling_update_of_the_gateways(cluster):
    run(cluster, 20000, 1, lambda _, gateways: gateways.update())


@pytest.mark.long
def test_a_process_of_a_model_is_killed(cluster):
    """The other pod is asked for the model while it is loaded again: nobody is told that there is none."""
    deployment, _, begin = cluster(2, PYTHON_MODEL)
    load = begin()
    wait_until(lambda: load.counted.answered >= 300)
    pod = deployment.pods[0]
    (process,) = stubs(pod.pid)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: f"{PYTHON_MODEL}: serves again" in pod.log.read_text())
    again = load.counted.answered
    wait_until(lambda: load.counted.answered >= again + 300)
    counted = load.stop()
    print(counted)
    assert counted.refused == 0, counted
    # what the process was at, and what came to it before that was noticed
    assert all("is not healthy" in reason for reason in counted.reasons), counted
