"""Exports as a running server sees them: a network of one's own, and a new version under load."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from client import VisionClient, VisionError
from server import TritonServer
from tests.conftest import ROOT
from tests.processes import wait_until

MODEL = "my_net"


def export(repository, checkpoint):
    """Export examples/my_net.py as its documentation says; returns the version that was published."""
    command = [sys.executable, "-m", "export", "examples/my_net.py:spec", "--checkpoint", str(checkpoint)]
    done = subprocess.run(
        [*command, "--model-repository", str(repository), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)[0]["version"]


@pytest.fixture
def checkpoints(tmp_path):
    """Two trainings' results."""
    sys.path.append(str(ROOT / "examples"))
    from my_net import MyNet

    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        paths.append(tmp_path / f"{seed}.pth")
        torch.save(MyNet().state_dict(), paths[-1])
    return paths


@pytest.mark.slow
def test_a_polling_server_moves_to_the_next_version_without_losing_a_request(tmp_path, checkpoints):
    repository = tmp_path / "repository"
    assert export(repository, checkpoints[0]) == 1
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    polling = ["--model-control-mode=poll", "--repository-poll-secs=1"]
    with TritonServer(repository, arguments=polling, log=tmp_path / "log") as running:
        versions, errors, enough = [], [], threading.Event()

        def ask_all_the_time():
            with VisionClient(running.grpc_url) as client:
                while not enough.wait(0.02):  # the export beside it needs the cores
                    try:
                        versions.append(client.classify(pixels, model=MODEL).version)
                    except VisionError as error:
                        errors.append(error)

        asking = threading.Thread(target=ask_all_the_time)
        asking.start()
        try:
            wait_until(lambda: versions or errors)
            assert export(repository, checkpoints[1]) == 2
            wait_until(lambda: versions[-1:] == ["2"] or errors)
        finally:
            enough.set()
            asking.join()
        assert [str(error) for error in errors] == []
        assert set(versions) == {"1", "2"}
        failed = [m for m in running.models() if m.state == "UNAVAILABLE" and m.reason != "unloaded"]
        assert failed == []


@pytest.mark.slow
def test_labels_of_ones_own_network_are_served(tmp_path, checkpoints):
    from my_net import CLASSES

    export(tmp_path / "repository", checkpoints[0])
    with (
        TritonServer(tmp_path / "repository", log=tmp_path / "log") as running,
        VisionClient(running.grpc_url) as client,
    ):
        prediction = client.classify(np.zeros((32, 32, 3), np.uint8), model=MODEL)
    assert {found.label for found in prediction.classes} <= set(CLASSES)
    assert prediction.weights.startswith("checkpoint ")
