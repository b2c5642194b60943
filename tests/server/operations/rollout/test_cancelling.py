"""A rollout that is told to end, at each of its stages: what was served stays as it was."""

import signal
import subprocess

import pytest

from tests.conftest import ROOT
from tests.gateways import TINY_CONFIG, needs_haproxy
from tests.graphs import publish
from tests.processes import wait_until
from tests.rollouts import QUICK, Asking, command, plus, publish_sleepy, roll_out, run, status

pytestmark = [needs_haproxy, pytest.mark.slow]

ENDLESS = """
import pathlib, time

class TritonPythonModel:
    def initialize(self, args):
        pathlib.Path({begun!r}).touch()
        time.sleep(3600)
"""
LAST_WAITS = """
    def initialize(self, args):  # of the candidate, s1 and s2: the last one waits
        import os, pathlib
        folder = pathlib.Path({folder!r})
        (folder / f"load-{{os.getpid()}}").touch()
        while len(list(folder.glob("load-*"))) > 2 and not (folder / "go").exists():
            time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("right", "cancelled", "endless"):
        publish(folder, name, plus(1), TINY_CONFIG)
    return folder


def test_ctrl_c_rolls_back(served, repository):
    publish(repository, "cancelled", plus(1), version=2)
    with Asking(served, "cancelled") as asking:
        rollout = subprocess.Popen(
            command(served, "rollout", "cancelled", "--version=2", "--seconds=600", "--max-slowdown=1000"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        with rollout.stdout as lines:
            assert any("shadow" in line for line in iter(lines.readline, ""))
            assert "cancelled 2 is being rolled out" in run(served, "reload").stderr
            assert "cancelled 2 is being rolled out" in roll_out(served, "right", version=3)[1]["said"]
            assert status(served)["rollout"]["model"] == "cancelled"
            rollout.send_signal(signal.SIGINT)
            rest = lines.read()
        assert rollout.wait() == 3
    assert "cancelled 2 rolled back: it was cancelled" in rest
    assert asking.failed() == {}, served.told()
    assert status(served)["rollout"] is None


def test_ctrl_c_ends_a_load(served, repository, tmp_path):
    publish_sleepy(repository, "endless", 2, seconds=0)
    (repository / "endless" / "2" / "model.py").write_text(ENDLESS.format(begun=str(tmp_path / "begun")))
    with Asking(served, "endless") as asking:
        rollout = subprocess.Popen(
            command(served, "rollout", "endless", "--version=2"), cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        wait_until((tmp_path / "begun").exists)
        rollout.send_signal(signal.SIGINT)
        said, _ = rollout.communicate()
    assert rollout.returncode == 3
    assert "endless 2 rolled back: it was cancelled" in said
    assert asking.failed() == {}, served.told()
    assert list(status(served)["servers"]) == ["s1", "s2"]


def test_ctrl_c_while_the_last_server_loads_rolls_back(served, repository, tmp_path):
    publish_sleepy(repository, "late", 1, 0.0)
    assert run(served, "reload", "late").returncode == 0
    publish_sleepy(repository, "late", 2, 0.0)
    with open(repository / "late" / "2" / "model.py", "a") as code:
        code.write(LAST_WAITS.format(folder=str(tmp_path)))
    arguments = command(served, "rollout", "late", "--version=2", *QUICK)
    with Asking(served, "late") as asking:
        rollout = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: len(list(tmp_path.glob("load-*"))) == 3)
        rollout.send_signal(signal.SIGINT)
        wait_until(lambda: status(served)["rollout"]["cancelled"])
        (tmp_path / "go").touch()
        said, _ = rollout.communicate()
    assert rollout.returncode == 3
    assert "late 2 rolled back: it was cancelled" in said
    assert asking.failed() == {}, served.told()
    assert status(served)["models"]["late"] == {"1": ["s1", "s2"]}
