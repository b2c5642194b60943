"""A model's process that is stopped while it is asked."""

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor, as_completed, wait

import pytest
from tritonclient.utils import InferenceServerException

from tests.launcher import Launcher, ask, write_model
from tests.processes import alive, wait_until


@pytest.mark.slow
def test_it_is_ended_before_it_can_spoil_memory(tmp_path):
    """2.51 takes it for dead after a second; one that goes on then ends tritonserver, or hangs requests."""

    def answers():
        with contextlib.suppress(InferenceServerException):
            return ask(launcher.grpc, "echo") == 1.0

    write_model(tmp_path / "models", "echo")
    with Launcher(tmp_path / "models", tmp_path / "log") as launcher, ThreadPoolExecutor() as threads:
        stopped = launcher.stubs("echo")
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        asked = [threads.submit(ask, launcher.grpc, "echo") for _ in range(6)]
        first = next(as_completed(asked))
        assert "is not healthy" in str(first.exception())
        wait_until(lambda: not alive(stopped))
        wait(asked)
        wait_until(answers)
        wait_until(launcher.ready)
        assert launcher.count("triton_vision_tritonserver_restarts_total") == 0
