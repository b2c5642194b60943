"""The Triton releases that exported models must load on, and what each accepts: `release.json`, read.

`release.json` at the repository's root is the lock of all versions: a table of releases, of which one is
what pip installs and one is the container's default. Compose, Dockerfiles, Kubernetes files and documents
agree with it, which tests/export/common/test_release.py checks. Each fact there has its source, and
`confirmed` says whether that source states it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "CONTAINER",
    "CONTAINER_RELEASE",
    "IMAGE",
    "LOCK",
    "MAX_IR_VERSION",
    "MAX_OPSET",
    "ONNXRUNTIME",
    "OPSET",
    "PIP",
    "RELEASES",
    "SHARED",
    "STRICTEST",
    "TENSORRT",
    "TENSORRT_IMAGE",
    "Fact",
    "Release",
]

LOCK = Path(__file__).resolve().parents[2] / "release.json"
TABLE = "releases"


@dataclass(frozen=True)
class Fact:
    """One entry of `release.json`: a value, its source, and whether that source states it."""

    value: Any  # a str, an int, or a list of str
    confirmed: bool
    source: str


@dataclass(frozen=True)
class Release:
    """One release of Triton: its name as in 24.10, and its facts by name."""

    name: str
    facts: Mapping[str, Fact] = field(hash=False)

    @property
    def triton(self) -> str:
        """The version that the server says of itself."""
        return str(self.facts["triton"].value)

    @property
    def image(self) -> str:
        """NVIDIA's image of the server."""
        return str(self.facts["image"].value)

    @property
    def tensorrt_image(self) -> str:
        """NVIDIA's image that builds the plans which `image` loads."""
        return str(self.facts["tensorrt_image"].value)

    @property
    def onnxruntime(self) -> str:
        """The version that the ONNX Runtime backend was built with."""
        return str(self.facts["onnxruntime"].value)

    @property
    def tensorrt(self) -> str:
        """The version whose plans it loads."""
        return str(self.facts["tensorrt"].value)

    @property
    def max_opset(self) -> int:
        """Of the default ONNX domain. Newer graphs are refused when they are loaded."""
        return int(self.facts["onnx_opset"].value)

    @property
    def max_ir_version(self) -> int:
        """Of ONNX files."""
        return int(self.facts["onnx_ir_version"].value)


_lock = json.loads(LOCK.read_text(encoding="utf-8"))

SHARED: dict[str, Fact] = {name: Fact(**fact) for name, fact in _lock.items() if name != TABLE}
RELEASES: dict[str, Release] = {
    name: Release(name, {key: Fact(**fact) for key, fact in facts.items()})
    for name, facts in _lock[TABLE].items()
}  # oldest first
PIP = RELEASES[SHARED["pip_release"].value]  # of the tritonserver that pip installs
CONTAINER = RELEASES[SHARED["container_release"].value]  # what compose runs unless told otherwise

CONTAINER_RELEASE = CONTAINER.name
IMAGE = CONTAINER.image
TENSORRT_IMAGE = CONTAINER.tensorrt_image  # builds the plans that `IMAGE` loads
TENSORRT = CONTAINER.tensorrt

# One repository is served by every release, so a graph keeps to what the strictest of them takes.
STRICTEST = min(RELEASES.values(), key=lambda release: (release.max_opset, release.max_ir_version))
MAX_OPSET = STRICTEST.max_opset
MAX_IR_VERSION = min(release.max_ir_version for release in RELEASES.values())
ONNXRUNTIME = STRICTEST.onnxruntime

OPSET = 18  # what we write: PyTorch's exporter is native there, later opsets go through a converter
