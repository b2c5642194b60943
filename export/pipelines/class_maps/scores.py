"""How a classifier's graph comes to its scores: does it end in the mean over all places and one linear layer?

Read backwards from an output. What does not change which channel a number belongs to is passed over: softmax
and sigmoid, dropout, and reshaping that drops dims of one. Anything else between pooling and scores breaks
the pattern, and is named: by the line of Python where the exporter has told it, else by its node.
"""

from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import onnx

from export.common.errors import ExplanationError
from export.pipelines.class_maps.averages import averaged, moved_from
from export.pipelines.class_maps.origins import origin_of
from export.pipelines.class_maps.reader import GraphReader, attributes_of

__all__ = ["ClassScores", "Linear", "class_scores"]

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
    scores, made = output, _behind(graph, output)
    while (node := graph.makers.get(made)) is not None and node.op_type in SQUASHED:
        scores = node.input[0]
        made = _behind(graph, scores)
    linear, pooled = _linear(graph, made)
    found = averaged(graph, pooled)
    if found is None:
        node = graph.makers.get(_behind(graph, pooled))
        if node is None:
            _refuse(output, "there is nothing between it and the graph's input")
        _refuse(output, _why_not_pooled(graph, node, linear, graph.makers.get(made)))
    features, channel = found
    channels = (graph.shape(features) or ())[channel]
    dims = graph.shape(linear.weights) if linear else (channels, channels)
    classes, inputs = (dims or (None, None))[:2][:: -1 if linear and linear.is_transposed else 1]
    if inputs != channels or not isinstance(classes, int):
        _refuse(output, f"its scores '{scores}' have dims {_shown(graph, scores)}, not one number per class")
    return ClassScores(output, scores, classes, features, channel, linear)


def _behind(graph: GraphReader, name: str) -> str:
    """The tensor that `name` has the numbers of, in other dims maybe."""
    while (node := graph.makers.get(name)) is not None:
        before = node.input[0] if _is_passed(graph, node) else moved_from(graph, name)
        if before == name:
            break
        name = before
    return name


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
    attributes = attributes_of(node)
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
        if (
            weights
            and weights[2:] == (1, 1)
            and all(not isinstance(side, int) or side == 1 for side in (places or ())[2:])
        ):
            return Linear(node.input[1], False, node.input[2] if len(node.input) > 2 else ""), node.input[0]
    return None, scores


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
    if written := origin_of(node):
        return f"{node.op_type} ({written})"
    return f"{node.op_type} '{node.name or node.output[0]}'"


def _shown(graph: GraphReader, name: str) -> str:
    shape = graph.shape(name)
    if shape is None:
        return "unknown dims"
    return f"[{', '.join(str(dim) if isinstance(dim, int) else '?' for dim in shape)}]"


def _rank(graph: GraphReader, name: str) -> int | None:
    shape = graph.shape(name)
    return None if shape is None else len(shape)
