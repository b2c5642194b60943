"""New versions of small models, rolled out on a real launcher under load."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http_triton
from onnx import helper

from server.operations.control.conversation import ask
from tests.conftest import ROOT
from tests.gateways import TINY_CONFIG, Served
from tests.graphs import FLOAT, INT64, graph, publish

QUICK = ("--requests=60", "--seconds=0", "--max-slowdown=1000", "--canary=50%")  # times are not what is tried
SLEEPY = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep({seconds})
        tensors = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() + 1 for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]) for x in tensors]
"""


def plus(number: float) -> bytes:
    """y = x + number."""
    return graph(
        [helper.make_node("Add", ["x", "number"], ["y"])],
        [("x", FLOAT, ["n", 1])],
        [("y", FLOAT, ["n", 1])],
        [("number", np.array(number, np.float32))],
    )


def failing() -> bytes:
    """y = x + 1, of even x; there is an error for odd ones."""
    return graph(
        [
            helper.make_node("Mod", ["x", "two"], ["odd"], fmod=1),
            helper.make_node("Cast", ["odd"], ["index"], to=INT64),
            helper.make_node("Gather", ["ones", "index"], ["one"]),  # which has no second
            helper.make_node("Add", ["x", "one"], ["y"]),
        ],
        [("x", FLOAT, ["n", 1])],
        [("y", FLOAT, ["n", 1])],
        [("two", np.array(2, np.float32)), ("ones", np.ones(1, np.float32))],
    )


def publish_sleepy(repository: Path, name: str, version: int, seconds: float) -> None:
    publish(
        repository,
        name,
        b"",
        TINY_CONFIG.replace("onnxruntime", "python").replace("dynamic_batching { }", ""),
        version,
    )
    folder = repository / name / str(version)
    (folder / "model.onnx").unlink()
    (folder / "model.py").write_text(SLEEPY.format(seconds=seconds))


def command(served: Served, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "server", *arguments, f"--port={served.port}"]


def run(served: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command to that launcher, to its end."""
    return subprocess.run(command(served, *arguments), cwd=ROOT, capture_output=True, text=True, check=False)


def roll_out(served: Served, model: str, *arguments: str, version: int = 2) -> tuple[int, dict]:
    """Exit status, and the last line; QUICK ones come first, so that others win."""
    done = run(served, "rollout", model, f"--version={version}", "--json", *QUICK, *arguments)
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {"said": done.stderr}


def status(served: Served) -> dict:
    """As `server status` has it."""
    return ask(served.port, {"do": "status"})


class Asking:
    """Requests over both interfaces, each answer checked to be x + 1, while the context is open."""

    def __init__(self, served: Served, model: str, threads: int = 4, version: str = ""):
        self.counts: Counter[str] = Counter()
        self._served, self._model, self._version = served, model, version
        self._over = threading.Event()
        self._lock = threading.Lock()
        kinds = [(grpc, "grpc"), (http_triton, "http")] * (threads // 2)
        self._threads = [threading.Thread(target=self._ask, args=kind) for kind in kinds]

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, triton, kind: str) -> None:
        headers = self._served.tenants["alice"]
        with triton.InferenceServerClient(self._served.target) as client:
            value = 0
            while not self._over.is_set():
                value = (value + 1) % 500  # answers that are 1 apart are to differ by more than a thousandth
                tensor = triton.InferInput("x", [1, 1], "FP32")
                tensor.set_data_from_numpy(np.array([[value]], np.float32))
                try:
                    answer = (
                        client.infer(self._model, [tensor], self._version, headers=dict(headers))
                        .as_numpy("y")
                        .item()
                    )
                    outcome = "right" if answer == value + 1 else f"{kind}: {answer} for {value}"
                except Exception as error:
                    outcome = f"{kind}: {error}"
                with self._lock:
                    self.counts[outcome] += 1

    def failed(self) -> dict[str, int]:
        """What else than right answers there was, so far."""
        with self._lock:
            return {outcome: count for outcome, count in self.counts.items() if outcome != "right"}


@contextlib.contextmanager
def state_in(folder: Path):
    """Where launchers that are started within keep their state; and their sockets, which have short paths."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("XDG_STATE_HOME")
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before
