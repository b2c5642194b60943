"""Is the graph what the spec says, and does it compute what PyTorch computes?

Everything is checked on the bytes that will be published, and every failure is reported at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from export import release
from export.conversion import stack
from export.errors import VerificationError
from export.graph_facts import GraphFacts, GraphTensor, facts_of
from export.spec import ModelSpec, Sample, Tensor

__all__ = ["Verification", "check_graph", "verify"]

BATCH_SIZES = (1, 2, 7)  # and the spec's maximum


@dataclass(frozen=True)
class Verification:
    """`largest_difference` is absolute, over all outputs and runs; `top1_agreement` is the share of items
    whose best class is the same, for models with labels."""

    items: int
    largest_difference: float
    top1_agreement: float | None


def verify(spec: ModelSpec, onnx_bytes: bytes, served: nn.Module, samples: list[Sample]) -> Verification:
    """Check the file and compare it with PyTorch at batch 1, 2, 7 and the maximum, in every sample size.

    Raises `VerificationError` with all failures.
    """
    model = onnx.load_from_string(onnx_bytes)
    failures = check_graph(spec, model)
    try:
        session = onnxruntime.InferenceSession(onnx_bytes, _session_options(), ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no public root
        raise VerificationError([*failures, f"ONNX Runtime does not load the graph: {error}"]) from error

    largest, agreed, compared = 0.0, 0, 0
    for batch in _batches(samples, spec.max_batch_size):
        where = f"at batch {len(batch[0])}, sizes {[array.shape[1:] for array in batch]}"
        try:
            actual = session.run(None, dict(zip([tensor.name for tensor in spec.inputs], batch, strict=True)))
        except Exception as error:
            failures.append(f"ONNX Runtime fails {where}: {error}")
            continue
        expected = _run_torch(served, batch)
        if not len(actual) == len(expected) == len(spec.outputs):
            failures.append(
                f"the graph has {len(actual)} outputs, PyTorch {len(expected)}, the spec {len(spec.outputs)}"
            )
            break
        compared += len(batch[0])
        for tensor, ours, theirs in zip(spec.outputs, actual, expected, strict=True):
            if problem := _shape_problem(tensor, ours, theirs, len(batch[0])):
                failures.append(f"{problem} {where}")
                continue
            difference = _largest_difference(ours, theirs)
            largest = max(largest, difference)
            if not difference <= spec.tolerance:  # so written, NaN fails
                failures.append(
                    f"output {tensor.name} differs from PyTorch by {difference:.3g} {where}; "
                    f"the tolerance is {spec.tolerance:g}"
                )
            if tensor.labels:
                agreed += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    if failures:
        raise VerificationError(failures)
    labelled = any(tensor.labels for tensor in spec.outputs)
    return Verification(compared, largest, agreed / compared if labelled else None)


def check_graph(spec: ModelSpec, model: onnx.ModelProto) -> list[str]:
    """What is wrong with the file itself: ONNX's checker, versions that the release accepts, tensors."""
    failures = []
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        failures.append(f"onnx.checker: {error}")
    facts = facts_of(model)
    accepted = f"Triton {release.CONTAINER_RELEASE} (ONNX Runtime {release.ONNXRUNTIME}) accepts up to"
    if facts.opset > release.MAX_OPSET:
        failures.append(f"opset {facts.opset}: {accepted} {release.MAX_OPSET}")
    if facts.ir_version > release.MAX_IR_VERSION:
        failures.append(f"ONNX IR version {facts.ir_version}: {accepted} {release.MAX_IR_VERSION}")
    return failures + _tensor_failures(spec, facts)


def _tensor_failures(spec: ModelSpec, facts: GraphFacts) -> list[str]:
    failures = []
    for kind, tensors, declared in (
        ("input", spec.inputs, facts.inputs),
        ("output", spec.outputs, facts.outputs),
    ):
        expected = [_declaration(tensor) for tensor in tensors]
        failures += [
            f"the graph's {kind} {found} is not in the spec" for found in declared if found not in expected
        ]
        failures += [
            f"the spec's {kind} {wanted} is not in the graph" for wanted in expected if wanted not in declared
        ]
    return failures


def _declaration(tensor: Tensor) -> GraphTensor:
    dims = tuple(None if dim == -1 else dim for dim in tensor.dims)
    return GraphTensor(tensor.name, tensor.dtype, (None, *dims))


def _batches(samples: list[Sample], max_batch_size: int) -> Iterator[Sample]:
    """Batches of 1, 2, 7 and the maximum in each sample size, going round the samples of that size."""
    groups: dict[tuple, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(tuple(array.shape for array in sample), []).append(sample)
    for group in groups.values():
        taken = 0
        for size in sorted({size for size in BATCH_SIZES if size < max_batch_size} | {max_batch_size}):
            yield stack([group[(taken + item) % len(group)] for item in range(size)])
            taken += size


def _run_torch(served: nn.Module, batch: Sample) -> list[np.ndarray]:
    with torch.inference_mode():
        answer = served(*(torch.from_numpy(array) for array in batch))
    return [tensor.numpy() for tensor in (answer if isinstance(answer, tuple | list) else [answer])]


def _shape_problem(tensor: Tensor, ours: np.ndarray, theirs: np.ndarray, batch: int) -> str | None:
    fits = ours.ndim == len(tensor.dims) + 1 and all(
        wanted in (-1, found) for wanted, found in zip((batch, *tensor.dims), ours.shape, strict=True)
    )
    if not fits or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return (
            f"output {tensor.name} is {ours.dtype} {ours.shape}, in PyTorch {theirs.dtype} {theirs.shape}, "
            f"in the spec {tensor.dtype} {(batch, *tensor.dims)}"
        )
    return None


def _largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    if not ours.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())


def _session_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # a mismatch is our failure message, not a line on stderr
    return options
