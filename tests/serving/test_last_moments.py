"""Processes of models end in order when their server stops, also after requests that failed."""

import resource
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from server import TritonServer
from tests.conftest import ROOT

MODELS = ("detect_faces", "recognize_objects", "read_text", "explain_objects")
CALLED = (
    "face_pnet",
    "face_rnet",
    "face_onet",
    "efficientnet_lite0",
    "text_recognizer",
    "efficientnet_lite0_cam",
)


@pytest.fixture
def cores(tmp_path, monkeypatch):
    """The folder where a process that crashes leaves a core."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if not pattern.startswith("core") or "/" in pattern:
        pytest.skip("cores of this machine are not files core* in the working directory of what crashed")
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.slow
def test_no_process_crashes_at_the_stop_after_requests_that_failed(cores):
    """An error keeps frames, and they keep requests, in memory that ends before Python does."""
    arguments = ["--model-control-mode=explicit", "--disable-auto-complete-config"]
    arguments += [f"--load-model={name}" for name in (*CALLED, *MODELS)]
    tensor = grpc.InferInput("encoded_image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"no image"]], object))
    log = cores / "log"
    with (
        TritonServer(ROOT / "model_repository", log=log, arguments=arguments) as server,
        grpc.InferenceServerClient(server.grpc_url) as client,
    ):
        for name in MODELS:
            for _ in range(4):  # for each of its processes
                with pytest.raises(InferenceServerException, match="not a JPEG"):
                    client.infer(name, [tensor])
    assert [path.name for path in cores.glob("core*")] == []
