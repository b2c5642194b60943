"""Parts of a graph, run by themselves: what a name is where it is a constant, and a piece as a function."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.graphs.sessions import session_options

__all__ = ["Outer", "function_of"]

SHAPES = ("Shape", "Size")


class Outer:
    """The graph around a Loop: its producers, and its constants where a name depends on no input."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output if name}
        self._constants: dict[str, NDArray[Any] | None] = {}

    def constant(self, name: str) -> NDArray[Any] | None:
        """Its value, or None where it depends on an input or is a Loop's own."""
        if name not in self._constants:
            self._constants[name] = self._evaluated(name)
        return self._constants[name]

    def filling(self, name: str) -> NDArray[Any] | None:
        """The one number, of no dims, that a tensor is filled with, whatever its shape; or None."""
        node = self.producers.get(name)
        if node is None or node.op_type not in ("ConstantOfShape", "Expand"):
            return None
        if node.op_type == "Expand":
            value = self.constant(node.input[0])
        else:
            given = [numpy_helper.to_array(attribute.t) for attribute in node.attribute]
            value = given[0] if given else np.zeros(1, np.float32)
        return value.reshape(()) if value is not None and value.size == 1 else None

    def is_of_shapes(self, name: str) -> bool:
        """Whether it is made of constants and the shapes of tensors alone, not of numbers in them."""
        waiting, seen = [name], set()
        while waiting:
            one = waiting.pop()
            if one in seen or one in self.weights or not one:
                continue
            seen.add(one)
            node = self.producers.get(one)
            if node is None:
                return False
            if node.op_type not in SHAPES:
                if _has_graphs(node):
                    return False
                waiting += node.input
        return True

    def _evaluated(self, name: str) -> NDArray[Any] | None:
        if name in self.weights:
            return numpy_helper.to_array(self.weights[name])
        nodes, waiting, seen = [], [name], set()
        while waiting:
            one = waiting.pop()
            if one in seen or one in self.weights or not one:
                continue
            seen.add(one)
            node = self.producers.get(one)
            if node is None or _has_graphs(node):
                return None
            nodes.append(node)
            waiting += node.input
        order = {id(node): at for at, node in enumerate(self.model.graph.node)}
        unique = sorted({id(node): node for node in nodes}.values(), key=lambda node: order[id(node)])
        needed = {given for node in unique for given in node.input}
        tensors = [tensor for tensor_name, tensor in self.weights.items() if tensor_name in needed]
        return function_of(self.model, unique, tensors, [], [name])({})[name]


def _has_graphs(node: onnx.NodeProto) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def function_of(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    tensors: Sequence[onnx.TensorProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
) -> Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]:
    """These nodes of `model`, in their order, as a function of arrays by name. Raises what ONNX Runtime
    raises, when it is made and when it is called."""
    graph = helper.make_graph(
        list(nodes),
        "part",
        list(inputs),
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        tensors,
    )
    part = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    session = onnxruntime.InferenceSession(
        part.SerializeToString(), session_options(), ["CPUExecutionProvider"]
    )
    return lambda arrays: dict(
        zip(outputs, map(np.asarray, session.run(list(outputs), dict(arrays))), strict=True)
    )
