"""What is known of a graph's tensors; knows nothing of class maps."""

from typing import Any

import onnx
from onnx import helper, numpy_helper

__all__ = ["GraphReader", "attributes_of"]


class GraphReader:
    """What is known of a graph's tensors: who makes them, their shapes, whether they depend on an input."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.model, self.graph = model, model.graph
        self.makers = {name: node for node in model.graph.node for name in node.output if name}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._shapes: dict[str, tuple[int | str | None, ...]] = {
            value.name: tuple(map(_dim, value.type.tensor_type.shape.dim))
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.type.tensor_type.HasField("shape")
        }
        self._kinds = {
            value.name: value.type.tensor_type.elem_type
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self._varying = {value.name for value in model.graph.input} - set(self._weights)
        for node in model.graph.node:
            if not self._varying.isdisjoint(node.input):
                self._varying.update(node.output)

    def shape(self, name: str) -> tuple[int | str | None, ...] | None:
        """With numbers, symbols, and None for what is not known; None where nothing is."""
        if name in self._weights:
            return tuple(self._weights[name].dims)
        return self._shapes.get(name)

    def kind(self, name: str) -> int:
        """The element type, as onnx counts them."""
        return self._weights[name].data_type if name in self._weights else self._kinds.get(name, 0)

    def is_constant(self, name: str) -> bool:
        """Whether it is the same whatever the inputs are."""
        return name not in self._varying

    def numbers(self, name: str) -> list[int] | None:
        """The values of a constant of integers, such as axes; None where the graph does not tell."""
        if name in self._weights:
            return [int(value) for value in numpy_helper.to_array(self._weights[name]).ravel()]
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "Constant":
            for attribute in maker.attribute:
                if attribute.name == "value":
                    return [int(value) for value in numpy_helper.to_array(attribute.t).ravel()]
                if attribute.name in ("value_ints", "value_int"):
                    return list(attribute.ints) or [attribute.i]
        return None

    def channels(self, name: str) -> list[int | str | None] | None:
        """The dims besides the first that are not one; a single one where there is a number per channel."""
        shape = self.shape(name)
        return None if shape is None else [dim for dim in shape[1:] if dim != 1]


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """By name, as Python has them."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return dim.dim_param or None
