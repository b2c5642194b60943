"""How a classifier's graph comes to its scores: does it end in the mean over all places and one linear layer?

Read backwards from an output. What does not change which channel a number belongs to is passed over: softmax
and sigmoid, dropout, and reshaping that drops dims of one. Anything else between pooling and scores breaks
the pattern, and is named.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import onnx
from onnx import helper, numpy_helper

from export.common.errors import ExplanationError

__all__ = ["ClassScores", "GraphReader", "Linear", "class_scores"]

SQUASHED = ("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid")
PASSED = ("Identity", "Dropout", "Cast")
RESHAPED = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
PATTERN = "A class activation map needs a network that ends in the mean over all places and one linear layer"
LARGEST = ("GlobalMaxPool", "MaxPool", "ReduceMax")


class Linear(NamedTuple):
    """scores = features @ weights + bias, by the names of tensors.

    weights: [classes, channels], or [channels, classes] where transposed; bias: [classes], or "" for none
    """

    weights: str
    is_transposed: bool
    bias: str


@dataclass(frozen=True)
class ClassScores:
    """Where the scores of one output come from, by the names of tensors.

    output      the graph's: scores, or probabilities made of them
    scores      FP [batch, classes], maybe with dims of one behind
    features    FP, of rank 4: what the mean is taken of; channel: its dim of channels, 1 or 3
    linear      None: the mean of a channel is the score of a class
    """

    output: str
    scores: str
    classes: int
    features: str
    channel: int
    linear: Linear | None


class GraphReader:
    """What is known of a graph's tensors: who makes them, their shapes, whether they depend on an input."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.graph = model.graph
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


def class_scores(model: onnx.ModelProto) -> ClassScores:
    """Raises `ExplanationError` where no output fits, with the node that breaks the pattern, or several."""
    graph, found, reasons = GraphReader(model), [], []
    for output in model.graph.output:
        try:
            found.append(_of_output(graph, output.name))
        except ExplanationError as error:
            reasons.append(str(error))
    if len(found) > 1:
        names = ", ".join(f"'{scores.output}'" for scores in found)
        raise ExplanationError(
            f"outputs {names} are class scores, each with maps of its own: export one of them alone"
        )
    if not found:
        raise ExplanationError("\n".join([*reasons, PATTERN]))
    return found[0]


def _of_output(graph: GraphReader, output: str) -> ClassScores:
    scores = output
    while (node := graph.makers.get(scores)) is not None and (
        node.op_type in SQUASHED or _is_passed(graph, node)
    ):
        scores = node.input[0]
    linear, pooled = _linear(graph, scores)
    if linear:
        while (node := graph.makers.get(pooled)) is not None and _is_passed(graph, node):
            pooled = node.input[0]
    node = graph.makers.get(pooled)
    if node is None:
        _refuse(output, "there is nothing between it and the graph's input")
    channel = _pooled_channel(graph, node)
    if channel is None:
        _refuse(output, _why_not_pooled(graph, node, linear, graph.makers.get(scores)))
    features = node.input[0]
    classes = graph.channels(scores)
    if classes is None or len(classes) != 1 or not isinstance(classes[0], int):
        _refuse(output, f"its scores '{scores}' have dims {_shown(graph, scores)}, not one number per class")
    return ClassScores(output, scores, classes[0], features, channel, linear)


def _linear(graph: GraphReader, scores: str) -> tuple[Linear | None, str]:
    """The linear layer that makes `scores`, and what it takes; None and `scores` where another node does."""
    node, bias = graph.makers.get(scores), ""
    if node is not None and node.op_type == "Add":
        constant = [name for name in node.input if graph.is_constant(name)]
        other = [name for name in node.input if not graph.is_constant(name)]
        if len(constant) == 1 and (maker := graph.makers.get(other[0])) and maker.op_type == "MatMul":
            node, bias = maker, constant[0]
    if node is None:
        return None, scores
    attributes = _attributes(node)
    if node.op_type == "MatMul" and graph.is_constant(node.input[1]) and _rank(graph, node.input[1]) == 2:
        return Linear(node.input[1], True, bias), node.input[0]
    if node.op_type == "Gemm" and graph.is_constant(node.input[1]):
        plain = attributes.get("alpha", 1.0) == 1 == attributes.get("beta", 1.0) and not attributes.get(
            "transA"
        )
        if plain:
            bias = node.input[2] if len(node.input) > 2 else ""
            return Linear(node.input[1], not attributes.get("transB"), bias), node.input[0]
    if node.op_type == "Conv" and graph.is_constant(node.input[1]) and attributes.get("group", 1) == 1:
        weights, places = graph.shape(node.input[1]), graph.shape(node.input[0])
        if weights and weights[2:] == (1, 1) and places and places[2:] == (1, 1):
            return Linear(node.input[1], False, node.input[2] if len(node.input) > 2 else ""), node.input[0]
    return None, scores


def _pooled_channel(graph: GraphReader, node: onnx.NodeProto) -> int | None:
    """The dim of channels, 1 or 3, if the node takes the mean over the two other dims; else None."""
    shape = graph.shape(node.input[0]) if node.input else None
    if shape is None or len(shape) != 4:
        return None
    if node.op_type == "GlobalAveragePool":
        return 1
    attributes = _attributes(node)
    if node.op_type == "AveragePool":
        whole = tuple(attributes["kernel_shape"]) == shape[2:]
        return 1 if whole and not any(attributes.get("pads", ())) else None
    if node.op_type != "ReduceMean":
        return None
    axes = attributes.get("axes")
    if axes is None and len(node.input) > 1:
        axes = graph.numbers(node.input[1])
    places = sorted(axis % 4 for axis in axes or ())
    return {(2, 3): 1, (1, 2): 3}.get(tuple(places))


def _is_passed(graph: GraphReader, node: onnx.NodeProto) -> bool:
    if node.op_type in PASSED:
        return True
    if node.op_type not in RESHAPED:
        return False
    before, after = graph.channels(node.input[0]), graph.channels(node.output[0])
    return before is not None and before == after and len(before) == 1 and isinstance(before[0], int)


def _why_not_pooled(
    graph: GraphReader, node: onnx.NodeProto, linear: Linear | None, layer: onnx.NodeProto | None
) -> str:
    name, taken = _named(node), _shown(graph, node.input[0]) if node.input else ""
    behind = (
        f" feeds the linear layer {_named(layer)}" if linear and layer is not None else " makes its scores"
    )
    if node.op_type in LARGEST:
        return f"{name}{behind}: it takes the largest value of all places, and a map adds up to a mean"
    if node.op_type in ("ReduceMean", "AveragePool"):
        return f"{name}{behind}, and it is no mean over height and width (of {taken})"
    if node.op_type in RESHAPED:
        return f"{name}{behind}, and it keeps the places apart ({taken}): nothing is pooled"
    if linear and _linear(graph, node.output[0])[0]:
        return f"{name}{behind}: these are two linear layers"
    if node.op_type in ("Gemm", "MatMul") and not graph.is_constant(node.input[1]):
        return f"{name}{behind}, and it multiplies two things that depend on the image, as attention does"
    return f"{name}{behind}, between it and the pooling" if linear else f"{name}{behind}"


def _refuse(output: str, reason: str) -> NoReturn:
    raise ExplanationError(f"output '{output}' has no class activation map: {reason}.")


def _named(node: onnx.NodeProto) -> str:
    return f"{node.op_type} '{node.name or node.output[0]}'"


def _shown(graph: GraphReader, name: str) -> str:
    shape = graph.shape(name)
    if shape is None:
        return "unknown dims"
    return f"[{', '.join(str(dim) if isinstance(dim, int) else '?' for dim in shape)}]"


def _rank(graph: GraphReader, name: str) -> int | None:
    shape = graph.shape(name)
    return None if shape is None else len(shape)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return dim.dim_param or None
