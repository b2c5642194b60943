"""A graph's layers: what of it may become INT8, what each is called, and how their tensors hang together.

A layer is a Conv or Gemm with constant weights, and is named by the weights' name, which is the network's own
and not the exporter's. Additions between layers become INT8 with them; everything else stays in float.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

__all__ = ["Layer", "LayerGraph"]

LAYERS = ("Conv", "Gemm")
BOUNDS = ("Relu", "Clip")  # of one input; ONNX Runtime makes them a part of the quantised layer before


@dataclass(frozen=True)
class Layer:
    """`weights` is [outputs, inputs, ...], its first axis being the channels of `output`."""

    name: str
    node: onnx.NodeProto
    weights: NDArray[Any]
    groups: int

    @property
    def depthwise(self) -> bool:
        """A filter of its own for every channel."""
        return self.groups > 1 and self.groups == len(self.weights)


class LayerGraph:
    """A copy of a model, with what is needed to walk it. `layers` are by name, in the graph's order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self._constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.producers = {name: node for node in self.nodes for name in node.output}
        self.layers = {layer.name: layer for layer in self._find_layers()}
        self._layer_of = {layer.node.output[0]: name for name, layer in self.layers.items()}
        self.inputs = {layer.node.input[0] for layer in self.layers.values()}

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """In the graph's order; the list is new each time, the nodes are the model's own."""
        return list(self.model.graph.node)

    @property
    def outputs(self) -> set[str]:
        """The names that the graph declares; tensors inside it are none."""
        return {value.name for value in self.model.graph.output}

    @property
    def activations(self) -> list[str]:
        """Every tensor that a quantised graph could hold as INT8."""
        names = dict.fromkeys(self.inputs)
        for node in self.nodes:
            if self.sources(node) and node.op_type in (*LAYERS, *BOUNDS, "Add"):
                names[node.output[0]] = None
        return list(names)

    def users(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor; those inside subgraphs are not looked for."""
        return [node for node in self.nodes if name in node.input]

    def constant(self, name: str) -> NDArray[Any]:
        """The values of an initializer, by its name. Raises `KeyError` for any other tensor."""
        return numpy_helper.to_array(self._constants[name])

    def set_constant(self, name: str, array: NDArray[Any]) -> None:
        """Give an initializer other values, of any shape and dtype. Raises `KeyError` if there is none.

        `layers` keep the weights that they were found with.
        """
        self._constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))

    def sources(self, node: onnx.NodeProto) -> set[str]:
        """The layers whose outputs come into a node by way of bounds and additions alone, or the layer that
        it is; empty if anything else comes in."""
        if node.output[0] in self._layer_of:
            return {self._layer_of[node.output[0]]}
        if node.op_type not in (*BOUNDS, "Add"):
            return set()
        found = set()
        for name in node.input[: 2 if node.op_type == "Add" else 1]:
            producer = self.producers.get(name)
            sources = self.sources(producer) if producer is not None else set()
            if not sources:
                return set()
            found |= sources
        return found

    def _find_layers(self) -> Iterator[Layer]:
        for node in self.nodes:
            if node.op_type in LAYERS and node.input[1] in self._constants:
                attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
                if node.op_type == "Gemm" and not attributes.get("transB"):
                    continue  # the exporter writes them [outputs, inputs]
                weights = self.constant(node.input[1])
                yield Layer(node.input[1], node, weights, attributes.get("group", 1))
