"""What a graph was made of, as a digest: while it stays the same, an export computes nothing."""

import contextlib
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from export.common import release
from export.sources.specs.spec import ModelSpec
from export.sources.weights import Weights

__all__ = ["described", "digest", "made_with", "recipe"]

# The files of ours that decide what a graph computes and refuses, besides the spec itself; the samples are
# among them, as the first is what is traced, and all of them choose the sizes that are tried.
GRAPH_SOURCES = (
    *("graphs/casting.py", "graphs/conversion.py", "graphs/guards.py", "graphs/sizes.py"),
    *("graphs/checks/size_checks.py",),
    *("networks/**/*.py", "pipelines/pytorch.py", "sources/specs/pixel*.py", "sources/specs/spec.py"),
    *("sources/checkpoints.py", "sources/spec_calls.py", "sources/weights.py"),
    *("sources/photographs.py", "sources/samples.py", "sources/text_lines.py"),
    *("model_code/decoding.py", "model_code/letterbox.py", "model_code/line_image.py"),
)
GRAPH_PACKAGES = ("torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "sympy")


def recipe(spec: ModelSpec, weights: Weights) -> str:
    """A digest of all that decides the graph: the spec, the weights, our code, the exporter's versions."""
    tensors = [
        (tensor.name, tensor.dtype, tensor.dims, tensor.max_dims)
        for tensor in (*spec.graph_inputs, *spec.graph_outputs)
    ]
    parts = [
        spec.name,
        *(described(maker) for maker in (spec.network, spec.served, spec.samples)),
        tensors,
        (len(spec.inputs), len(spec.states)),
        spec.max_batch_size,
        weights.label,
        weights.sha256,
        made_with(GRAPH_SOURCES, GRAPH_PACKAGES),
        (release.OPSET, release.MAX_IR_VERSION),
    ]
    return digest(parts)


def digest(parts: list[Any]) -> str:
    """A recipe of these parts, which JSON can hold: sha256, in hex."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def made_with(sources: Sequence[str], packages: Sequence[str]) -> list[Any]:
    """For a recipe: what the files of ours that match hold, and the versions of packages, None if missing."""
    here = Path(__file__).resolve().parent.parent
    files = sorted(path for pattern in sources for path in here.glob(pattern))
    return [
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        [_version(package) for package in packages],
    ]


def described(maker: Callable[..., Any] | None) -> str:
    """For a recipe: a function's text, or what another callable says of itself; no memory addresses."""
    if inspect.isfunction(maker):
        with contextlib.suppress(OSError):  # it was typed in, and has none
            return inspect.getsource(maker)
    return getattr(maker, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(maker))


def _version(package: str) -> str | None:
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return None
