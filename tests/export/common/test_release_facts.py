"""The facts of each release, written a second time: a slip in `release.json` has to be made here as well.

What is derived from that file, such as the linter's page, follows a wrong value without a word; these do not.
"""

import json

import pytest

from export.common.release import LOCK, RELEASES, SHARED
from tests.conftest import ROOT

COPIES = (LOCK, ROOT / "server" / "release.json")
EXPECTED_SHARED = {
    "pip_release": "24.10",
    "container_release": "26.08",
    "pip_triton": "nvidia-pytriton==0.7.0",
    "triton": "2.51.0",  # the pip release's
    "driver_of_cuda_13": "580",  # CUDA's release notes, minor version compatibility
}
EXPECTED = {
    "24.10": {
        "triton": "2.51.0",  # tritonserver of nvidia-pytriton 0.7.0 says so
        "image": "nvcr.io/nvidia/tritonserver:24.10-py3",
        "sdk_image": "nvcr.io/nvidia/tritonserver:24.10-py3-sdk",
        "tensorrt_image": "nvcr.io/nvidia/tensorrt:24.10-py3",
        "python": "3.10.12",  # the server repository's compatibility.md of Triton's server, row 24.10
        "onnxruntime": "1.19.2",  # the same, ONNX Runtime Versions
        "onnx_opset": 21,  # onnxruntime 1.19.2 refuses 22
        "onnx_ir_version": 10,  # it refuses 11
        "tensorrt": "10.5.0",  # not confirmed: users of tensorrt:24.10-py3
        "cuda": "12.6.2",  # rel-24-10.html
        "driver": "560",  # rel-24-10.html
        "driver_of_data_center_gpus": ["470.57", "525.85", "535.86", "545.23"],  # rel-24-10.html
        "compute_capability": "6.0",  # rel-24-10.html: Pascal and later
        "tensorrt_compute_capability": "7.5",  # TensorRT 10.5's release notes: Volta removed
        "highest_compute_capability": "9.0",  # rel-24-10.html: Hopper; Blackwell came with 25.01
        "client_shared_memory": "open",  # its tritonserver has no --allow-client-shm
    },
    "25.10": {
        "triton": "2.62.0",  # TRITON_VERSION of branch r25.10
        "image": "nvcr.io/nvidia/tritonserver:25.10-py3",
        "sdk_image": "nvcr.io/nvidia/tritonserver:25.10-py3-sdk",
        "tensorrt_image": "nvcr.io/nvidia/tensorrt:25.10-py3",
        "python": "3.12.3",  # compatibility.md, row 25.10
        "onnxruntime": "1.23.1",  # the same, ONNX Runtime Versions
        "onnx_opset": 23,  # onnxruntime 1.23.1 refuses 24
        "onnx_ir_version": 11,  # it refuses 12
        "tensorrt": "10.13.3",  # not confirmed: compatibility.md, the trtllm image built on PyTorch 25.10
        "cuda": "13.0.2",  # rel-25-10.html
        "driver": "580",  # CUDA's release notes for 13; rel-25-10.html says 575, which has CUDA 12.9
        "driver_of_data_center_gpus": ["535.86"],  # rel-25-10.html, of branches that are still maintained
        "compute_capability": "7.5",  # rel-25-10.html: Turing and later
        "tensorrt_compute_capability": "7.5",  # not confirmed: the container takes nothing lower
        "highest_compute_capability": "12.1",  # rel-25-10.html: Blackwell; cuda-gpus
        "client_shared_memory": "open",  # extension_shared_memory.md of branch r25.10
    },
    "26.08": {
        "triton": "2.72.0",  # TRITON_VERSION of branch r26.08
        "image": "nvcr.io/nvidia/tritonserver:26.08-py3",
        "sdk_image": "nvcr.io/nvidia/tritonserver:26.08-py3-sdk",
        "tensorrt_image": "nvcr.io/nvidia/tensorrt:26.08-py3",
        "python": "3.12.3",  # compatibility.md, row 26.08
        "onnxruntime": "1.28.0",  # the same, ONNX Runtime Versions
        "onnx_opset": 26,  # onnxruntime 1.28.0 refuses 27
        "onnx_ir_version": 13,  # it refuses 14
        "tensorrt": "11.2.1",  # not confirmed: TensorRT's release of that month
        "cuda": "13.4.1",  # rel-26-08.html
        "driver": "615.61",  # not confirmed: compatibility.md of branch r26.08, vllm image
        "driver_of_data_center_gpus": ["580"],  # not confirmed: CUDA 13's minor version compatibility
        "compute_capability": "7.5",  # rel-26-08.html: Turing and later
        "tensorrt_compute_capability": "7.5",  # not confirmed: the container takes nothing lower
        "highest_compute_capability": "12.1",  # rel-26-08.html: Blackwell; cuda-gpus
        "client_shared_memory": "--allow-client-shm=true",  # closed from 26.04 on unless that is given
    },
}


def values(facts):
    return {name: fact["value"] for name, fact in facts.items()}


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() | RELEASES.keys()))
@pytest.mark.parametrize("copy", COPIES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_release_has_the_facts_that_its_sources_state(copy, name):
    assert values(json.loads(copy.read_text())["releases"][name]) == EXPECTED[name]


@pytest.mark.parametrize("copy", COPIES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_said_of_no_release_is_as_written_here(copy):
    lock = json.loads(copy.read_text())
    assert values({name: fact for name, fact in lock.items() if name in SHARED}) == EXPECTED_SHARED
    assert lock.keys() == {*EXPECTED_SHARED, "releases"}
