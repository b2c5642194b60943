"""What needs an NVIDIA GPU: `pytest -m gpu`. Elsewhere each test is skipped, and says what was missing.

The machine needs the driver and onnxruntime-gpu (`make setup RUNTIME=gpu`); the accelerator also TensorRT's
libraries, plans docker with NVIDIA's container toolkit or TensorRT's Python package; serving plans needs the
container's tritonserver. What needs more than there is, is skipped.
"""

import urllib.request
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.grpc as grpc
from google.protobuf import text_format

from client import VisionClient
from export.catalogue import CATALOGUE
from export.common.devices import QUERY, capability_here
from export.common.errors import PlanError
from export.graphs.preparation import tolerance_of
from export.pipelines.plans.building import find_builder
from export.pipelines.plans.pipeline import ACCELERATOR_NAME, PLAN_NAME, PlanRequest, accelerate, build_plan
from export.repository.configs.contract import parse_config
from export.sources.photographs import photographs
from export.sources.samples import photograph_pixels
from server import TritonServer
from server.operations.doctor.host import why_not
from tests.conftest import ROOT
from tests.copies import copied

MODEL = "efficientnet_lite0"
TENSORRT_BACKEND = Path("/opt/tritonserver/backends/tensorrt")

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="session", autouse=True)
def capability():
    if (capability := capability_here()) is None:
        pytest.skip(f"no NVIDIA GPU here: `{' '.join(QUERY)}` answers with none")
    return capability


@pytest.fixture(scope="session")
def accelerator():
    """ONNX Runtime with TensorRT's libraries."""
    if reason := why_not("TensorrtExecutionProvider"):
        pytest.skip(f"ONNX Runtime has no TensorRT here: {reason}")


@pytest.fixture(scope="session")
def builder():
    try:
        return find_builder()
    except PlanError as error:
        pytest.skip(str(error))


@pytest.fixture
def repository(tmp_path):
    """The CNN, the decoder and the ensemble, to be changed."""
    models = tmp_path / "models"
    for name in (MODEL, "image_decoder", "recognize_objects"):
        copied(ROOT / "model_repository" / name, models / name)
    return models


@pytest.fixture(scope="session")
def cpu_answers():
    """ONNX Runtime's on the CPU, which an export compared with PyTorch's: pixels, probabilities."""
    pixels = np.stack([sample for (sample,) in photograph_pixels()[:8]])
    graph = next((ROOT / "model_repository" / MODEL).glob("[0-9]*/model.onnx"))
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return pixels, session.run(None, {"image": pixels})[0]


def served(server, pixels):
    with grpc.InferenceServerClient(server.grpc_url) as client:
        tensor = grpc.InferInput("image", list(pixels.shape), "UINT8")
        tensor.set_data_from_numpy(pixels)
        return client.infer(MODEL, [tensor]).as_numpy("probabilities")


def on_gpu(repository, name="config.pbtxt"):
    path = repository / MODEL / name
    config = parse_config(path.read_text(), path)
    config.ClearField("instance_group")
    config.instance_group.add(count=1, kind="KIND_GPU")
    path.write_text(text_format.MessageToString(config))


def log_of(tmp_path):
    return (tmp_path / "triton.log").read_text()


def test_the_cnn_is_served_on_the_gpu(repository, tmp_path, cpu_answers):
    assert "CUDAExecutionProvider" in ort.get_available_providers(), "make setup RUNTIME=gpu"
    on_gpu(repository)
    pixels, expected = cpu_answers
    with TritonServer(repository, log=tmp_path / "triton.log") as server:
        np.testing.assert_allclose(served(server, pixels), expected, atol=2e-3)  # TF32 on newer GPUs
    assert "could not be used" not in log_of(tmp_path)
    assert "the CPU takes its place" not in log_of(tmp_path)


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_accelerator_is_served(repository, tmp_path, cpu_answers, precision):
    accelerate(CATALOGUE[MODEL], repository, PlanRequest(precision))
    path = repository / MODEL / "configs" / f"{ACCELERATOR_NAME}.pbtxt"
    path.write_text(path.read_text().replace("/var/cache/tensorrt", str(tmp_path / "engines")))
    on_gpu(repository, f"configs/{ACCELERATOR_NAME}.pbtxt")
    pixels, expected = cpu_answers
    arguments = [f"--model-config-name={ACCELERATOR_NAME}"]
    with TritonServer(
        repository, arguments=arguments, log=tmp_path / "triton.log", start_timeout_s=900
    ) as server:
        tolerance = tolerance_of(CATALOGUE[MODEL], precision)
        np.testing.assert_allclose(served(server, pixels), expected, atol=max(tolerance, 2e-3))
    assert "could not be used" not in log_of(tmp_path)
    assert list((tmp_path / "engines").glob("*.engine")), "no engine was kept"


@pytest.mark.usefixtures("builder")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plan_is_built_and_agrees_with_pytorch(repository, monkeypatch, tmp_path, capability, precision):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    report = build_plan(CATALOGUE[MODEL], repository, PlanRequest(precision))
    assert (report.outcome, report.compute_capability) == ("published", capability)
    assert report.differences["plan"] <= tolerance_of(CATALOGUE[MODEL], precision)


@pytest.mark.usefixtures("builder")
@pytest.mark.timeout(1800)
def test_a_plan_is_served(repository, monkeypatch, tmp_path, cpu_answers):
    if not TENSORRT_BACKEND.is_dir():
        pytest.skip(f"no {TENSORRT_BACKEND}: the TensorRT backend is in the container only; run this there")
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    build_plan(CATALOGUE[MODEL], repository, PlanRequest("fp16"))
    pixels, expected = cpu_answers
    with TritonServer(repository, arguments=[f"--model-config-name={PLAN_NAME}"]) as server:
        tolerance = tolerance_of(CATALOGUE[MODEL], "fp16")
        np.testing.assert_allclose(served(server, pixels), expected, atol=tolerance)


def test_images_are_handed_over_in_cuda_shared_memory(repository):
    path = next(iter(photographs())).path
    with TritonServer(repository) as server:
        with VisionClient(server.grpc_url) as client:
            expected = client.classify(path).classes
        with VisionClient(server.grpc_url, shared_memory="cuda") as client:
            assert client.classify(path).classes == expected
            with grpc.InferenceServerClient(server.grpc_url) as triton:
                assert triton.get_cuda_shared_memory_status().regions
        with grpc.InferenceServerClient(server.grpc_url) as triton:
            assert not triton.get_cuda_shared_memory_status().regions


def test_metrics_say_what_the_gpu_does(repository):
    with TritonServer(repository) as server:
        metrics = urllib.request.urlopen(server.metrics_url, timeout=10).read().decode()
    assert "nv_gpu_memory_used_bytes{gpu_uuid=" in metrics
    assert "nv_gpu_utilization{gpu_uuid=" in metrics
