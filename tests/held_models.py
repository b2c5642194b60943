"""Our own models, as they are, on a server where a test can keep them from executing for a while.

So a test tells what waits in a queue, not the speed of this machine.
"""

import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from server import TritonServer, config_path
from server.environment import installation, native
from tests.copies import copied
from tests.held import Gate

GATED = """

_execute = TritonPythonModel.execute


def _gated(self, requests):
    if getattr(self, "name", None) in {names!r}:
        pass_gate(len(requests))
    return _execute(self, requests)


TritonPythonModel.execute = _gated
"""


@dataclass(frozen=True)
class HeldModels:
    """`server` serves the models; while `gate` is closed, those that are held do not execute."""

    server: TritonServer
    gate: Gate

    def waiting(self, model: str) -> int:
        """How many requests a model that is held has and has not executed, queued or at the gate."""
        lines = urllib.request.urlopen(self.server.metrics_url).read().decode().splitlines()
        start = f'nv_inference_pending_request_count{{model="{model}"'
        queued = int(next(line.split()[-1] for line in lines if line.startswith(start)))
        return queued + self.gate.held()


def patient_copy(repository: Path, folder: Path, name: str) -> None:
    """A copy of a model, in which requests wait for as long as a test needs."""
    copied(repository / name, folder / name)
    path = config_path(folder, name)
    config = text_format.Parse(path.read_text(), ModelConfig())
    if config.dynamic_batching.HasField("default_queue_policy"):
        config.dynamic_batching.default_queue_policy.default_timeout_microseconds = 0
        path.write_text(text_format.MessageToString(config))


@contextmanager
def held_models(
    repository: Path, folder: Path, held: tuple[str, ...], free: tuple[str, ...] = ()
) -> Iterator[HeldModels]:
    """A server on copies of these models of `repository`, made in `folder`; those of `free` are never held.

    Plain ONNX models are served by the Python half of the backend, which can be held.
    """
    gate = Gate(folder / "gate")
    for name in (*held, *free):
        patient_copy(repository, folder / "models", name)
        model = folder / "models" / name / "1" / "model.py"
        if name in held and model.is_file():
            model.write_text(model.read_text() + gate.code + GATED.format(names=[None]))
    shutil.copytree(installation.OUR_BACKENDS, folder / "backends")
    backend = folder / "backends" / "onnxruntime" / "model.py"
    backend.write_text(backend.read_text() + gate.code + GATED.format(names=list(held)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installation, "OUR_BACKENDS", folder / "backends")
        patch.setenv(native.NATIVE_VARIABLE, "0")
        server = TritonServer(folder / "models", log=folder / "log").start()
    try:
        assert all(model.ready for model in server.models())
        yield HeldModels(server, gate)
    finally:
        server.stop()
