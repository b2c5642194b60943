"""Weights of a file that are NaN or infinite: those of a training that diverged, not a mask's infinities.

A network may hold infinities on purpose: -inf added to scores that a softmax is to ignore, a bound of a
minimum, what a condition chooses. Such a value goes on through sums and choices until something takes it for
what it is, or the graph ends. Where a layer takes it, answers are spoilt, also those that look sound: a NaN
in front of ArgMax is a class, an infinity in front of a sigmoid is 1.
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
from export.pipelines.onnx_files.given.reading import graphs_in, parts_of, stored
from export.pipelines.serving.in_process import Answer

__all__ = ["check_weights"]

FLOATS = tuple(
    getattr(TensorProto, name)
    for name in (
        *("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16"),
        *("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"),
    )
)
SHOWN = 8  # tensors named in a message

# What hands its operands on, each element as it is, or in a sum or a product of scores.
MOVING = {
    *("Identity", "Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand"),
    *("Tile", "Slice", "Split", "Concat", "Pad", "Trilu", "ConstantOfShape", "OneHot", "Where", "Compress"),
    *("Scatter", "ScatterElements", "ScatterND", "Gather", "GatherElements", "GatherND", "DepthToSpace"),
}
SUMMING = {"Add", "Sub", "Sum", "Neg", "Mul", "Div"}
# What takes an infinity for what it is meant as: nothing of it is left, or a number that says so.
TAKING = {
    *("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "TopK", "Exp", "ReduceLogSumExp"),
    *("ReduceMax", "ReduceMin", "Min", "Max", "Clip", "MaxPool", "GlobalMaxPool"),
}
# Where even a NaN that a condition chose, to say that there is no answer, becomes one of a layer's numbers.
LAYERS = {
    *("MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose", "GRU", "LSTM", "RNN", "PRelu", "Attention"),
    *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization"),
}
ASKING = {"IsNaN", "IsInf", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Shape", "Size"}
LIMITS = {"min", "max", "value"}  # attributes of old Clip and Pad, which may be infinite
WEIGHTS_OF_ATTENTION = 3  # inputs of a fused attention; those after them are masks and biases of scores


def check_weights(candidate: Candidate, alone: list[Answer]) -> None:
    """Raises `OnnxFileError`, which names them and what takes them, where weights of layers are not finite,
    or any are and every sample's answer holds NaN."""
    lost = [name for name in alone[0] if all(_has_nan(answer[name]) for answer in alone)]
    uses = _Uses(candidate.model)
    broken = list(uses.broken_attributes())
    for name, tensor in (*stored(candidate.model), *uses.written_out()):
        if tensor.data_type in FLOATS:
            array = numpy_helper.to_array(tensor, str(candidate.folder)).astype(np.float64)
            if np.isfinite(array).all():
                continue
            taker = uses.spoilt(name, nan=bool(np.isnan(array).any()))
            if lost or taker:
                nans, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
                called = f"{tensor.name or name or 'a constant'} {list(array.shape)}"
                broken.append(
                    f"  {called}: {nans} NaN, {infinite} infinite{f', in {taker}' if taker else ''}"
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
                    "Export it from a checkpoint of before training diverged; write an infinity that is "
                    "meant, as that of a mask, as a large finite number, such as -1e9",
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
    same: dict[str, list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )  # in and out of inner graphs

    def __post_init__(self) -> None:
        self._functions = {(one.domain, one.name): one for one in self.model.functions}
        for node in self._nodes():
            for at, name in enumerate(node.input):
                self.consumers[name].append((node, at))
            self._join(node)

    def _nodes(self) -> Iterator[NodeProto]:
        return (node for part in parts_of(self.model) for node in part.node)

    def _join(self, node: NodeProto) -> None:
        """Names inside a node's graphs, or in the function that it calls, with those outside."""
        if function := self._functions.get((node.domain, node.op_type)):
            pairs = [
                *zip(node.input, function.input, strict=False),
                *zip(function.output, node.output, strict=False),
            ]
        else:
            first = 2 if node.op_type == "Loop" else 0  # its number of turns and its condition
            pairs = []
            for graph in graphs_in(node):
                inner = [value.name for value in graph.input]
                outer = [value.name for value in graph.output]
                if node.op_type in ("Loop", "Scan"):
                    pairs += zip(node.input[first:], inner[first:], strict=False)
                    pairs += zip(outer[first // 2 :], inner[first:], strict=False)  # of the next turn
                pairs += zip(outer[first // 2 :], node.output, strict=False)
        for one, other in pairs:
            self.same[one].append(other)

    def spoilt(self, name: str, nan: bool) -> str:
        """The layer that takes what is stored under `name` in a place where it is no mask or bound; ""."""
        waiting: list[tuple[str, bool]] = [(name, False)]  # and whether a condition chose it
        seen: set[tuple[str, bool]] = set()
        while waiting:
            name, chosen = known = waiting.pop()
            if known in seen:
                continue
            seen.add(known)
            waiting += [(other, chosen) for other in self.same[name]]
            for node, at in self.consumers[name]:
                if (nan and chosen and node.op_type not in LAYERS) or self._goes_on(node, at, nan):
                    waiting += [(output, chosen or node.op_type == "Where") for output in node.output]
                elif not self._takes(node, at, nan):
                    return f"{node.op_type} {node.name}".strip()
        return ""

    def _goes_on(self, node: NodeProto, at: int, nan: bool) -> bool:
        kind = node.op_type
        if kind == "CastLike" and at == 1:
            return False  # only its type counts
        return kind in MOVING or (kind in SUMMING and not nan)

    def _takes(self, node: NodeProto, at: int, nan: bool) -> bool:
        kind = node.op_type
        if kind in ASKING or kind in ("If", "Loop", "Scan", "CastLike") or self._calls(node):
            return True
        return not nan and (kind in TAKING or ("Attention" in kind and at >= WEIGHTS_OF_ATTENTION))

    def _calls(self, node: NodeProto) -> bool:
        return (node.domain, node.op_type) in self._functions

    def written_out(self) -> Iterator[tuple[str, TensorProto]]:
        """Constants that are numbers in their node and no tensor."""
        for node in self._nodes():
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.name in ("value_float", "value_floats"):
                    values = list(attribute.floats) or [attribute.f]
                    yield node.output[0], numpy_helper.from_array(np.array(values, np.float32))

    def broken_attributes(self) -> Iterator[str]:
        """Of nodes, such as the slope of a LeakyRelu; those of constants are stored values."""
        for node in self._nodes():
            for attribute in node.attribute if node.op_type != "Constant" else ():
                values = np.array([attribute.f, *attribute.floats])
                allowed = attribute.name in LIMITS and not np.isnan(values).any()
                if not np.isfinite(values).all() and not allowed:
                    yield (
                        f"  {attribute.name} of {node.op_type} {node.name}".rstrip()
                        + f": {values[~np.isfinite(values)][0]}"
                    )
