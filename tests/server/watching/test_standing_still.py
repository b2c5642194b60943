"""A model's process that gets no processor for a second, as on a machine that is far too busy."""

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor, as_completed, wait

import pytest
from tritonclient.utils import InferenceServerException

from tests.launcher import Launcher, ask, write_model
from tests.processes import alive, wait_until


@pytest.mark.slow
def test_all_is_served_again(tmp_path):
    """2.51 takes the process for dead, both then spoil the memory that they share, and tritonserver ends."""

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
        for pid in alive(stopped):
            os.kill(pid, signal.SIGCONT)
        wait(asked)
        wait_until(answers)
        wait_until(launcher.ready)
