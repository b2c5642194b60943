"""Which integers a graph takes for indices: of the tables that an input chooses rows of, as tokens do."""

import numpy as np
import onnx

__all__ = ["index_limits", "unseen_integers"]

PASSING = {"Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Flatten", "Transpose"}
STORED = {"Identity", "Cast", "DequantizeLinear"}  # what a table may go through, its rows as they are
PADDING = -1  # what many a model takes for "none"


def index_limits(model: onnx.ModelProto) -> dict[str, int]:
    """The largest index, by input, that every table takes of which it chooses rows."""
    rows = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    source = {value.name: value.name for value in model.graph.input}  # where a tensor comes from, unchanged
    limits: dict[str, int] = {}
    for node in model.graph.node:
        values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
        if node.op_type == "Constant" and values and values[0].dims:
            rows[node.output[0]] = values[0].dims[0]
        elif node.op_type in STORED and node.input[0] in rows:
            rows[node.output[0]] = rows[node.input[0]]
        if node.op_type in PASSING and node.input and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if node.op_type == "Gather" and axis == 0 and node.input[0] in rows and node.input[1] in source:
            name, limit = source[node.input[1]], rows[node.input[0]] - 1
            limits[name] = min(limit, limits.get(name, limit))
    return limits


def unseen_integers(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """By input: integers that samples may not have and that ONNX Runtime on the CPU takes, or refuses,
    unharmed: -1, and the last index of a table."""
    limits = index_limits(model)
    return {
        value.name: (PADDING, *([limits[value.name]] if value.name in limits else []))
        for value in model.graph.input
        if _is_integer(value.type.tensor_type.elem_type)
    }


def _is_integer(kind: int) -> bool:
    return kind != onnx.TensorProto.UNDEFINED and (
        np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).kind in "iu"
    )
