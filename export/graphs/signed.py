"""Q/DQ graphs as TensorRT has them: INT8 with zero points of 0, and biases in float.

For CPUs activations are UINT8 with zero points, and biases INT32. Here their ranges are kept, around 0. What
UINT8 did silently, clipping at 0 in place of a ReLU, becomes a Clip.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.helper import make_node

__all__ = ["signed"]

U8_MAX, S8_MAX = 255, 127


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with the same inputs and outputs; the model itself is not changed. Any other comes back."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    added: dict[str, NDArray[Any]] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and _is(constants.get(node.input[0]), np.int32):
            bias, scale = constants[node.input[0]], constants[node.input[1]]
            added[node.output[0]] = (bias * scale).astype(scale.dtype)
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        quantises = node.op_type in ("QuantizeLinear", "DequantizeLinear")
        if zero is None or not quantises or not _is(zero, np.uint8):
            nodes.append(node)
            continue
        scale, zero_point = constants[node.input[1]], zero.astype(np.int64)
        largest = np.maximum(zero_point, U8_MAX - zero_point)
        if node.op_type == "QuantizeLinear" and not zero_point.any():
            low, high, clipped = (f"{node.output[0]}_{part}" for part in ("low", "high", "clipped"))
            added[low], added[high] = np.zeros((), scale.dtype), (U8_MAX * scale).astype(scale.dtype)
            nodes.append(make_node("Clip", [node.input[0], low, high], [clipped], name=clipped))
            node.input[0] = clipped
        added[f"{node.input[1]}_signed"] = (scale * largest / S8_MAX).astype(scale.dtype)
        added[f"{node.input[2]}_signed"] = np.zeros_like(zero, np.int8)
        node.input[1:3] = [f"{name}_signed" for name in node.input[1:3]]
        nodes.append(node)
    if not added:
        return model
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(
        [*kept, *(numpy_helper.from_array(array, name) for name, array in added.items())]
    )
    return changed


def _is(array: NDArray[Any] | None, kind: type[np.generic]) -> bool:
    return array is not None and array.dtype == kind
