"""The Triton release that exported models must load on, and what it accepts: `release.json`, read.

`release.json` at the repository's root is the lock of all versions. Compose, Dockerfiles, Kubernetes files
and documents agree with it, which tests/export/common/test_release.py checks. Each fact there has its source,
and `confirmed` says whether that source states it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "CONTAINER_RELEASE",
    "FACTS",
    "IMAGE",
    "LOCK",
    "MAX_IR_VERSION",
    "MAX_OPSET",
    "ONNXRUNTIME",
    "OPSET",
    "TENSORRT",
    "TENSORRT_IMAGE",
    "TRITON",
    "Fact",
]

LOCK = Path(__file__).resolve().parents[2] / "release.json"


@dataclass(frozen=True)
class Fact:
    """One entry of `release.json`: a value, its source, and whether that source states it."""

    value: Any  # a str, an int, or a list of str
    confirmed: bool
    source: str


FACTS: dict[str, Fact] = {name: Fact(**fact) for name, fact in json.loads(LOCK.read_text()).items()}

CONTAINER_RELEASE: str = FACTS["triton_container"].value
IMAGE: str = FACTS["image"].value
TENSORRT_IMAGE: str = FACTS["tensorrt_image"].value  # builds the plans that `IMAGE` loads
TRITON: str = FACTS["triton"].value  # the container's and the pip binary's
ONNXRUNTIME: str = FACTS["onnxruntime"].value
TENSORRT: str = FACTS["tensorrt"].value

# Newer graphs are refused at load time, however well they run on the desk.
MAX_OPSET: int = FACTS["onnx_opset"].value  # of the default ONNX domain
MAX_IR_VERSION: int = FACTS["onnx_ir_version"].value

OPSET = 18  # what we write: PyTorch's exporter is native there, later opsets go through a converter
