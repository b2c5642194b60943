"""The gateway of --tfserving lives with the launcher: it is started again, drained, and never left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import requests

from server.watching.gateway import TFServingGateway
from tests.conftest import ROOT
from tests.fuzz.test_tfserving import gateway_of
from tests.held import Gate
from tests.launcher import Launcher, write_model
from tests.processes import alive, wait_until
from tests.server.tfserving.conftest import addresses
from tests.tfserving import HALF, HALF_CONFIG, Client

OPTIONS = ("--tfserving", "--tfserving-grpc-port=0", "--tfserving-rest-port=0")
RESTARTS = "triton_vision_tfserving_restarts_total"


def half(folder):
    write_model(folder, "half", HALF.replace("ADDED", "0"), HALF_CONFIG)
    return folder


def ask(launcher):
    over_grpc, _ = addresses(launcher)
    with Client(over_grpc) as client:
        return client.predict("half", x=np.float32([2]))["y"].tolist()


@pytest.mark.slow
def test_it_is_started_again_on_its_ports(tmp_path):
    with Launcher(half(tmp_path / "models"), tmp_path / "log", *OPTIONS) as launcher:
        assert ask(launcher) == [1]
        assert launcher.ready()
        first = gateway_of(launcher)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: launcher.count(RESTARTS) == 1)
        wait_until(launcher.ready)
        assert gateway_of(launcher) != first
        _, rest = addresses(launcher)
        wait_until(lambda: answers(rest))
        assert ask(launcher) == [1]
        assert "the gateway of --tfserving ended with status -9" in launcher.told()


def answers(rest):
    try:
        return requests.get(f"{rest}/v1/models/half", timeout=60).status_code == 200
    except requests.ConnectionError:
        return False


def test_without_restarts_its_end_is_told(tmp_path):
    with Launcher(half(tmp_path / "models"), tmp_path / "log", *OPTIONS, "--no-restart") as launcher:
        os.kill(gateway_of(launcher), signal.SIGKILL)
        wait_until(lambda: not launcher.ready())
        assert launcher.troubles() == {"tfserving": "the gateway ended, and is not started again"}
        assert launcher.count(RESTARTS) == 0


@pytest.mark.slow
def test_one_that_hangs_is_killed_and_started_again():
    gateway = TFServingGateway(["--grpc-port=0", "--rest-port=0"], hung_s=3)
    with gateway.serving("127.0.0.1:1", "127.0.0.1"):  # no Triton there: that is no reason
        os.kill(gateway.pid, signal.SIGSTOP)
        wait_until(lambda: "no sign of life" in gateway.look())
        wait_until(lambda: gateway.look() == "the gateway of --tfserving is started again")
        wait_until(lambda: status_of(gateway) == 404)


def status_of(gateway):
    assert "no sign of life" not in gateway.look()
    try:
        return requests.get(f"{gateway.rest_url}/v1", timeout=60).status_code
    except requests.ConnectionError:
        return 0


@pytest.mark.slow
def test_it_reaches_a_tritonserver_that_was_started_again(tmp_path):
    with Launcher(half(tmp_path / "models"), tmp_path / "log", *OPTIONS) as launcher:
        _, rest = addresses(launcher)
        os.kill(launcher.tritonserver(), signal.SIGKILL)
        wait_until(lambda: launcher.count("triton_vision_tritonserver_restarts_total") == 1)
        wait_until(launcher.ready)
        wait_until(lambda: answers(rest))
        assert ask(launcher) == [1]


@pytest.mark.slow
def test_a_stop_drains_it_before_tritonserver(tmp_path):
    gate = Gate(tmp_path / "gate")
    code = gate.code + HALF.replace("ADDED", "0").replace("xs = [", "pass_gate(len(requests)); xs = [")
    write_model(tmp_path / "models", "half", code, HALF_CONFIG)
    with Launcher(tmp_path / "models", tmp_path / "log", *OPTIONS) as launcher:
        gateway = gateway_of(launcher)
        answer = []
        with gate.closed():
            asking = threading.Thread(target=lambda: answer.append(ask(launcher)))
            asking.start()
            gate.wait_until_held()
            launcher.process.terminate()
            _, rest = addresses(launcher)
            wait_until(lambda: not answers(rest))  # it takes no more, and still waits for the one
            assert alive([gateway, launcher.tritonserver()]) == [gateway, launcher.tritonserver()]
        asking.join()
        assert answer == [[1]]
        launcher.process.wait()
        assert alive([gateway]) == []


def test_nothing_stays_when_the_launcher_is_killed(tmp_path):
    with Launcher(half(tmp_path / "models"), tmp_path / "log", *OPTIONS) as launcher:
        gateway = gateway_of(launcher)
        launcher.process.kill()
        wait_until(lambda: not alive([gateway]))


def refused(tmp_path, *arguments):
    """What a start says that is refused before tritonserver is started."""
    command = [sys.executable, "-m", "server", str(half(tmp_path / "models")), "--status-port=0", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    return done.stderr


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(tmp_path, "--tfserving", f"--tfserving-rest-port={port}", "--tfserving-grpc-port=0")
    assert f"127.0.0.1:{port} for tfserving-rest" in told
    assert "--tfserving-rest-port" in told


def test_options_that_cannot_be(tmp_path):
    (tmp_path / "models.config").write_text("model_config_list { config {")
    told = refused(tmp_path, *OPTIONS, f"--tfserving-model-config={tmp_path / 'models.config'}")
    assert "is not a model config file of TensorFlow Serving" in told


@pytest.mark.slow
def test_it_needs_none_of_tritonservers_grpc(tmp_path):
    arguments = (*OPTIONS, "--", "--allow-grpc=false")
    with Launcher(half(tmp_path / "models"), tmp_path / "log", *arguments) as launcher:
        assert ask(launcher) == [1]


def test_a_label_that_is_none(tmp_path):
    told = refused(tmp_path, *OPTIONS, "--tfserving-version-label=half")
    assert "write MODEL/LABEL=VERSION" in told
