"""Open the batch dimension of a graph that was exported for one item.

Only what is certain is changed: the dims that inputs and outputs declare, a Reshape that writes 1 where its
input has the batch, constants that must be as long as the batch beside it. Whether the result answers each
item as the original does is for the caller to verify, by running both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.common.errors import OnnxFileError

__all__ = ["BATCH", "fixed_at_one", "open_batch"]

BATCH = "batch"
PASSES = 64  # each opens one more layer of reshapes
RECURRENT = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}  # the inputs that hold initial states


def fixed_at_one(model: onnx.ModelProto) -> bool:
    """Is every input of one item, fixed as such?"""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    return bool(inputs) and all(_first(value) == 1 for value in inputs)


def open_batch(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A copy with an open batch, and what was changed, in words.

    Raises `OnnxFileError` when an input has no first dim of 1.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    graph = opened.graph
    weights = {tensor.name for tensor in graph.initializer}
    for value in (value for value in graph.input if value.name not in weights):
        if _first(value) not in (1, None):
            raise OnnxFileError(
                f"--batch: the first dim of input {value.name} is {_first(value)}, not a batch of 1; "
                "export the network with an open batch"
            )
        if not value.type.tensor_type.shape.dim:
            raise OnnxFileError(f"--batch: input {value.name} is a scalar, one for all items of a batch")
        _set_first(value)
    for value in graph.output:
        if _first(value) == 1:
            _set_first(value)
    del graph.value_info[:]
    source = next(value.name for value in graph.input if value.name not in weights)
    rewriting = _Rewriting(opened, source)
    for _ in range(PASSES):
        if not rewriting.one_pass():
            break
    return opened, rewriting.changes


def _first(value: onnx.ValueInfoProto) -> int | None:
    dims = value.type.tensor_type.shape.dim
    return dims[0].dim_value if dims and dims[0].HasField("dim_value") else None


def _set_first(value: onnx.ValueInfoProto) -> None:
    value.type.tensor_type.shape.dim[0].dim_param = BATCH


@dataclass
class _Rewriting:
    """Passes over a graph whose inputs have an open batch."""

    model: onnx.ModelProto
    source: str  # an input, whose first dim is the batch

    def __post_init__(self) -> None:
        self.changes: list[str] = []
        self._names = 0
        self._length = ""

    def one_pass(self) -> bool:
        """Change what can be told from the shapes as they are inferred now; was there anything?"""
        graph, before = self.model.graph, len(self.changes)
        try:
            inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True)
        except Exception:  # a graph that cannot be inferred is changed no further
            return False
        shapes = {value.name: _dims(value) for value in _values(inferred.graph)}
        shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        constants = _constants(graph)
        shapes |= {name: list(array.shape) for name, array in constants.items()}
        for node in list(graph.node):
            if node.op_type == "Reshape":
                self._reshape(node, shapes, constants)
            elif node.op_type == "Concat":
                self._concat(node, shapes)
            elif node.op_type in RECURRENT:
                self._recurrent(node, shapes)
        return len(self.changes) > before

    def _reshape(self, node: onnx.NodeProto, shapes: dict[str, Any], constants: dict[str, Any]) -> None:
        """[1, ...] of what has the batch first: 0 copies that dim, whatever it is."""
        dims, wanted = shapes.get(node.input[0]), constants.get(node.input[1])
        if not dims or dims[0] != BATCH or wanted is None or not wanted.size or wanted.flat[0] != 1:
            return
        if any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute):
            return
        kept = wanted.copy()
        kept.flat[0] = 0
        node.input[1] = self._constant(kept)
        self.changes.append(f"{node.op_type} {node.name or node.output[0]}")

    def _concat(self, node: onnx.NodeProto, shapes: dict[str, Any]) -> None:
        """What stands beside a batch, as a class token does, is as long as it in all dims but one."""
        axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
        dims = [shapes.get(name) for name in node.input]
        rank = next((len(one) for one in dims if one), 0)
        if axis % max(rank, 1) == 0 or not any(one and one[0] == BATCH for one in dims):
            return
        for at, one in enumerate(dims):
            if one and one[0] == 1:
                node.input[at] = self._expanded(node, node.input[at], rank, 0)

    def _recurrent(self, node: onnx.NodeProto, shapes: dict[str, Any]) -> None:
        """Initial states are as many as the items."""
        layout = next((attribute.i for attribute in node.attribute if attribute.name == "layout"), 0)
        axis = 0 if layout else 1
        data = shapes.get(node.input[0])
        if not data or data[axis] != BATCH:
            return
        for at in RECURRENT[node.op_type]:
            name = node.input[at] if at < len(node.input) else ""
            dims = shapes.get(name)
            if dims and dims[axis] == 1:
                node.input[at] = self._expanded(node, name, 3, axis)

    def _expanded(self, node: onnx.NodeProto, name: str, rank: int, axis: int) -> str:
        """`name` repeated along `axis`, as often as there are items."""
        ones = [np.ones(1, np.int64)] * rank
        parts = [self._batch_length() if at == axis else self._constant(one) for at, one in enumerate(ones)]
        shape, expanded = self._name(), self._name()
        self._before(
            node,
            helper.make_node("Concat", parts, [shape], axis=0),
            helper.make_node("Expand", [name, shape], [expanded]),
        )
        self.changes.append(f"{node.op_type} {node.name or node.output[0]}")
        return expanded

    def _batch_length(self) -> str:
        """A tensor of one number: how many items there are."""
        if not self._length:
            shape, self._length = self._name(), self._name()
            first = self.model.graph.node[0]
            self._before(
                first,
                helper.make_node("Shape", [self.source], [shape]),
                helper.make_node(
                    "Gather", [shape, self._constant(np.zeros(1, np.int64))], [self._length], axis=0
                ),
            )
        return self._length

    def _before(self, node: onnx.NodeProto, *made: onnx.NodeProto) -> None:
        nodes = self.model.graph.node
        at = next(index for index, one in enumerate(nodes) if one.output[:] == node.output[:])
        for offset, one in enumerate(made):
            nodes.insert(at + offset, one)

    def _constant(self, array: NDArray[Any]) -> str:
        name = self._name()
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _name(self) -> str:
        self._names += 1
        return f"opened_batch_{self._names}"


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.value_info
    yield from graph.input
    yield from graph.output


def _dims(value: onnx.ValueInfoProto) -> list[int | str | None]:
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in value.type.tensor_type.shape.dim
    ]


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """Small integer constants by name: what a Reshape may be told."""
    found = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64
        and len(tensor.dims) == 1
        and tensor.data_location != onnx.TensorProto.EXTERNAL
    }
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.t.data_type == onnx.TensorProto.INT64:
                    found[node.output[0]] = numpy_helper.to_array(attribute.t)
    return found
