"""Weights of a file that are NaN or infinite: those of a training that diverged, not a mask's infinities.

A network may hold infinities on purpose: -inf added to scores that a softmax is to ignore, a bound of a
minimum, what a condition chooses. As an operand of a layer they spoil answers, also where those look sound: a
NaN in front of ArgMax is a class, an infinity in front of a sigmoid is 1.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from export.common.errors import OnnxFileError
from export.common.wording import counted
from export.pipelines.onnx_files.candidate import Candidate
from export.serving.in_process import Answer

__all__ = ["check_weights"]

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
SHOWN = 8  # tensors named in a message
PASSING = {
    *("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile"),
    *("Slice", "Split", "Concat", "ConstantOfShape"),
}
CHOOSING = {"Where", "IsNaN", "IsInf", "Equal"}  # may meet a NaN on purpose, too
BOUNDING = {
    *("Min", "Max", "Clip", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
    *("Pad", "Scatter", "ScatterElements", "ScatterND", "Trilu", "OneHot", "If", "Loop", "Scan"),
}
MASKED_ADDITIONS = {"Add": -np.inf, "Sub": np.inf, "Gather": -np.inf}  # and what they take of infinities
WEIGHTS_OF_ATTENTION = 3  # inputs of a fused attention; those after them are masks and biases of scores


def check_weights(candidate: Candidate, alone: list[Answer]) -> None:
    """Raises `OnnxFileError`, which names them, where weights of layers are not finite, or any are and every
    sample's answer holds NaN."""
    lost = [name for name in alone[0] if all(_has_nan(answer[name]) for answer in alone)]
    uses = _Uses(candidate.model)
    broken = []
    for name, tensor in _stored(candidate.model):
        if tensor.data_type in FLOATS:
            array = numpy_helper.to_array(tensor, str(candidate.folder))
            if not np.isfinite(array).all() and (lost or uses.spoil(name, array)):
                nans, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
                broken.append(
                    f"  {tensor.name or 'a constant'} {list(array.shape)}: {nans} NaN, {infinite} infinite"
                )
    if broken:
        said = f", and output {', '.join(lost)} is NaN for every sample" if lost else ""
        more = [f"  and {len(broken) - SHOWN} more"] if len(broken) > SHOWN else []
        raise OnnxFileError(
            "\n".join(
                [
                    f"{counted(len(broken), 'tensor')} of weights with values that are not finite{said}:",
                    *broken[:SHOWN],
                    *more,
                    "Export it from a checkpoint of before training diverged",
                ]
            )
        )
    if lost:
        candidate.notes.append(f"output {', '.join(lost)} is NaN for every sample that was tried")


def _has_nan(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


@dataclass
class _Uses:
    """Which nodes take what, in all graphs of a model."""

    model: onnx.ModelProto
    consumers: dict[str, list[tuple[NodeProto, int]]] = field(default_factory=lambda: defaultdict(list))
    producers: dict[str, NodeProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in (node for part in _parts(self.model) for node in part.node):
            for at, name in enumerate(node.input):
                self.consumers[name].append((node, at))
            for name in node.output:
                self.producers[name] = node

    def spoil(self, name: str, array: NDArray[Any]) -> bool:
        """Does a layer take what is stored under `name`, in a place where it is no mask or bound?"""
        waiting, seen = [name], set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for node, at in self.consumers[name]:
                if node.op_type in PASSING:
                    waiting += node.output
                elif not self._takes(node, at, array):
                    return True
        return False

    def _takes(self, node: NodeProto, at: int, array: NDArray[Any]) -> bool:
        kind = node.op_type
        if kind in CHOOSING:
            return True
        if np.isnan(array).any():
            return False
        if kind in BOUNDING or ("Attention" in kind and at >= WEIGHTS_OF_ATTENTION):
            return True
        if (
            kind == "Add"
            and self._is_layer(node.input[1 - at])
            and len(np.unique(array[np.isfinite(array)])) > 1
        ):
            return False  # its bias; a mask is 0 where it hides nothing
        allowed = MASKED_ADDITIONS.get(kind)
        return allowed is not None and bool((array[np.isinf(array)] == allowed).all())

    def _is_layer(self, name: str) -> bool:
        """Is it a product with weights, which are stored and not computed?"""
        node = self.producers.get(name)
        return (
            node is not None
            and node.op_type == "MatMul"
            and any(
                operand not in self.producers or self.producers[operand].op_type == "Constant"
                for operand in node.input[1:]
            )
        )


def _parts(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """The graph, functions, and the graphs inside their nodes."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while waiting:
        part = waiting.pop()
        yield part
        for node in part.node:
            for attribute in node.attribute:
                waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _stored(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """All tensors, by the name under which nodes take them."""
    for part in _parts(model):
        if isinstance(part, onnx.GraphProto):
            yield from ((tensor.name, tensor) for tensor in part.initializer)
            yield from ((sparse.values.name, sparse.values) for sparse in part.sparse_initializer)
        for node in part.node:
            for attribute in node.attribute if node.output else ():
                tensors = [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
                yield from ((node.output[0], tensor) for tensor in tensors)
