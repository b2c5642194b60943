"""PyTorch models become verified, versioned models in a Triton model repository.

`python -m export --help` is the command; a spec file for a network of one's own needs the names below.
"""

import os

from export.common.packages import Package
from export.sources.samples import photograph_pixels
from export.sources.specs.pixels import PixelClassifier
from export.sources.specs.spec import (
    CommittedWeights,
    Evaluation,
    ModelSpec,
    PackagedWeights,
    Quantization,
    State,
    Tensor,
)

__all__ = [
    "CommittedWeights",
    "Evaluation",
    "ModelSpec",
    "Package",
    "PackagedWeights",
    "PixelClassifier",
    "Quantization",
    "State",
    "Tensor",
    "photograph_pixels",
]

# Or ONNX Runtime, 1.29 and later, reports names and hashes of models to its maker; read when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
