"""A model repository that cannot be read for a while, as shared storage: what is loaded serves on."""

import os
import signal

import pytest

from tests.launcher import CONFIG, Launcher, ask, get, write_model
from tests.processes import segments, wait_until


@pytest.fixture
def repository(tmp_path):
    """Two Python models, `echo` of two processes and `other` of one."""
    write_model(tmp_path / "models", "echo")
    write_model(tmp_path / "models", "other", config=CONFIG.replace("count: 2", "count: 1"))
    return tmp_path / "models"


@pytest.mark.slow
def test_what_dies_meanwhile_is_told_and_replaced_afterwards(repository, tmp_path):
    away = tmp_path / "away"
    with Launcher(repository, tmp_path / "log") as launcher:
        repository.rename(away)
        wait_until(lambda: not launcher.ready())
        assert launcher.troubles().keys() == {"repository"}
        assert str(repository) in launcher.troubles()["repository"]
        assert get(f"{launcher.status}/serves")[0] == 200
        assert ask(launcher.grpc, "echo") == ask(launcher.grpc, "other") == 1.0

        dead, left = launcher.stubs("echo")
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: "echo" in launcher.troubles())
        assert "once the repository can be read" in launcher.troubles()["echo"]
        assert launcher.stubs("echo") == [left]  # it goes on, as it could not be loaded again
        assert get(f"{launcher.status}/serves")[0] == 200
        assert ask(launcher.grpc, "other") == 1.0

        away.rename(repository)
        wait_until(launcher.ready)
        assert [ask(launcher.grpc, "echo") for _ in range(4)] == [1.0] * 4
        assert len(launcher.stubs("echo")) == 2
    log = (tmp_path / "log").read_text()
    assert log.count("once the repository can be read") == 1


@pytest.mark.slow
def test_tritonserver_itself_is_started_once_it_is_back(repository, tmp_path):
    away = tmp_path / "away"
    with Launcher(repository, tmp_path / "log") as launcher:
        repository.rename(away)
        os.kill(launcher.tritonserver(), signal.SIGKILL)
        wait_until(lambda: "tritonserver is started once it can be read" in launcher.told())
        away.rename(repository)
        wait_until(launcher.ready)
        assert ask(launcher.grpc, "echo") == 1.0
        assert launcher.count("triton_vision_tritonserver_restarts_total") == 1
    assert launcher.told().count("starting it again") == 1


@pytest.mark.slow
def test_a_launcher_that_waits_for_it_can_be_stopped(repository, tmp_path):
    with Launcher(repository, tmp_path / "log") as launcher:
        repository.rename(tmp_path / "away")
        os.kill(launcher.tritonserver(), signal.SIGKILL)
        wait_until(lambda: "tritonserver is started once it can be read" in launcher.told())
    assert not segments(launcher.process.pid)
