"""Class activation maps, computed inside the graph of a classifier.

A network that ends in the mean over all places and one linear layer could as well weigh the channels at each
place, and take the mean of that: the map of a class c is map[y, x] = sum over k of w[c, k] * f[k, y, x], and
mean(map) + b[c] is the score of the class before softmax (Zhou et al., "Learning Deep Features for
Discriminative Localization", CVPR 2016, section 2). Without the linear layer the channels are the maps
themselves (Lin et al., "Network In Network", 2013).

Inputs and outputs stay as they are. Added, without the batch:

    class_id         INT32 [1], an input: the class that is asked for; -1: the likeliest
    heatmap          FP32 [height, width] of the input image: class_map, enlarged bilinearly
    class_map        FP32 [rows, columns]: what each place adds to the score, times the number of places
    logit, bias      FP32 [1]: the class's score, which is mean(class_map) + bias
    explained_class  INT32 [1]: the class; -1, with NaN for all the rest, where there is none of that number
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.common.errors import ExplanationError
from export.pipelines.class_maps.reader import GraphReader
from export.pipelines.class_maps.scores import ClassScores, class_scores

__all__ = ["CHANNELS", "CLASS_ID", "MAP_OUTPUTS", "TOP_CLASS", "image_input", "with_class_maps"]

CLASS_ID = "class_id"
MAP_OUTPUTS = ("heatmap", "class_map", "logit", "bias", "explained_class")
TOP_CLASS = -1
LEAST_OPSET = 11  # Resize as it is used here
AXES_AS_INPUT = 13  # from this opset on ReduceSum and Squeeze do so, and Resize may be given sizes alone
PREFIX = "class_activation/"
CHANNELS = (1, 3, 4)  # of an image


def with_class_maps(model: onnx.ModelProto) -> tuple[onnx.ModelProto, ClassScores]:
    """A copy that has these tensors, and where its scores come from.

    Raises `ExplanationError` with the reason where the network, or its input, is of another kind.
    """
    scores = class_scores(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = GraphReader(model)
    image, height, width = image_input(graph)
    taken = {*graph.makers, *(value.name for value in model.graph.input)}
    if clashes := sorted(taken & {CLASS_ID, *MAP_OUTPUTS}):
        raise ExplanationError(
            f"the graph has tensors {', '.join(clashes)}, names that class activation maps take: rename them"
        )
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset < LEAST_OPSET:
        raise ExplanationError(
            f"the graph is of opset {opset}, and maps need {LEAST_OPSET}: export it again, or try "
            "onnx.version_converter.convert_version"
        )
    builder = _Builder(made.graph, opset)
    batch = (graph.shape(image) or (None,))[0]
    if isinstance(batch, int) and batch != 1:
        raise ExplanationError(f"its batch is fixed at {batch}: export it with an open one, or one of 1")
    made.graph.input.append(helper.make_tensor_value_info(CLASS_ID, TensorProto.INT32, [batch, 1]))
    builder.maps(scores, graph, image, (height, width))
    rows, columns = _places(graph, scores)
    outputs = {"heatmap": (height, width), "class_map": (rows, columns), "logit": (1,), "bias": (1,)}
    declared = [(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()]
    for name, kind, dims in (*declared, ("explained_class", TensorProto.INT32, (1,))):
        made.graph.output.append(helper.make_tensor_value_info(name, kind, [batch, *dims]))
    return made, scores


def image_input(graph: GraphReader) -> tuple[str, int | str, int | str]:
    """The input that is an image, with its dims of height and width: numbers, or symbols where they are open.

    Raises `ExplanationError` where no input is, and where it is not plain which dims these are.
    """
    weights = {tensor.name for tensor in graph.graph.initializer}
    inputs = [value.name for value in graph.graph.input if value.name not in weights]
    images = [name for name in inputs if len(graph.shape(name) or ()) == 4]
    if len(images) != 1:
        raise ExplanationError(
            f"{len(images)} of its inputs ({', '.join(inputs)}) have four dims, batch and those of an image; "
            "a map lies over exactly one"
        )
    shape = graph.shape(images[0]) or ()
    last, first = shape[3] in CHANNELS, shape[1] in CHANNELS
    if last == first:
        raise ExplanationError(
            f"input '{images[0]}' has dims {list(shape)}: which of them are height and width is not plain, "
            "as 1, 3 or 4 channels are neither last nor behind the batch, or both"
        )
    sides = shape[1:3] if last else shape[2:4]
    height, width = (
        side if side is not None else f"{images[0]}_{name}"
        for side, name in zip(sides, ("height", "width"), strict=True)
    )
    return images[0], height, width


def _places(graph: GraphReader, scores: ClassScores) -> tuple[int | str, int | str]:
    """Rows and columns of the map: those of the features."""
    shape = graph.shape(scores.features) or (None,) * 4
    dims = shape[2:] if scores.channel == 1 else shape[1:3]
    rows, columns = (
        dim if dim is not None else f"class_map_{name}"
        for dim, name in zip(dims, ("rows", "columns"), strict=True)
    )
    return rows, columns


class _Builder:
    """Appends nodes to a graph, each with one output under a name of its own."""

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        self._graph, self._opset = graph, opset
        self._names: Iterator[str] = (f"{PREFIX}{number}" for number in range(1_000_000))

    def maps(
        self, scores: ClassScores, graph: GraphReader, image: str, sides: tuple[int | str, int | str]
    ) -> None:
        flat = self._node("Reshape", scores.scores, self._constant([-1, scores.classes]))  # [batch, classes]
        flat = self._as_float(flat, graph.kind(scores.scores))
        chosen, is_wrong = self._chosen(flat, scores.classes)
        index = self._node("Reshape", chosen, self._constant([-1]))
        features = self._as_float(scores.features, graph.kind(scores.features))
        rows = self._rows(scores, graph, chosen, index)  # [batch, channels]
        spread = [-1, 1, 1, 1]
        spread[scores.channel] = self._channels(scores, graph)
        weighed = self._node("Mul", features, self._node("Reshape", rows, self._constant(spread)))
        summed = self._over(scores.channel, "ReduceSum", weighed, keepdims=1)
        if scores.channel == 3:
            summed = self._node("Transpose", summed, perm=[0, 3, 1, 2])
        # 0 where there is such a class; what is added to NaN is NaN
        nothing = self._node("Where", is_wrong, self._constant([[np.nan]]), self._constant([[0.0]]))
        placed = self._node("Reshape", nothing, self._constant([-1, 1, 1, 1]))
        whole = self._node("Add", summed, placed)  # [batch, 1, rows, columns]
        self._over(1, "Squeeze", whole, output="class_map")
        enlarged = self._node(
            "Resize",
            whole,
            *self._nothing_instead(2),
            self._sizes(whole, image, graph, sides),
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        self._over(1, "Squeeze", enlarged, output="heatmap")
        logit = self._node("GatherElements", flat, chosen, axis=1)
        self._node("Add", logit, nothing, output="logit")
        self._node("Add", self._bias(scores, graph, chosen), nothing, output="bias")
        told = self._node("Where", is_wrong, self._constant([[TOP_CLASS]]), chosen)
        self._node("Cast", told, output="explained_class", to=TensorProto.INT32)

    def _chosen(self, flat: str, classes: int) -> tuple[str, str]:
        """INT64 [batch, 1], always a class there is; BOOL [batch, 1], whether another one was asked for."""
        asked = self._node("Cast", CLASS_ID, to=TensorProto.INT64)
        is_below = self._node("Less", asked, self._constant([[TOP_CLASS]]))
        is_above = self._node("Greater", asked, self._constant([[classes - 1]]))
        is_wrong = self._node("Or", is_below, is_above)
        is_top = self._node("Or", is_wrong, self._node("Equal", asked, self._constant([[TOP_CLASS]])))
        top = self._node("ArgMax", flat, axis=1, keepdims=1)
        return self._node("Where", is_top, top, asked), is_wrong

    def _rows(self, scores: ClassScores, graph: GraphReader, chosen: str, index: str) -> str:
        """FP32 [batch, channels]: the weights of each item's class."""
        if scores.linear is None:
            depth = self._constant([scores.classes])
            return self._node("OneHot", index, depth, self._constant([0.0, 1.0]))
        kind = graph.kind(scores.linear.weights)
        if not scores.linear.is_transposed:
            return self._as_float(self._node("Gather", scores.linear.weights, index, axis=0), kind)
        columns = self._node("Gather", scores.linear.weights, index, axis=1)
        return self._as_float(self._node("Transpose", columns, perm=[1, 0]), kind)

    def _bias(self, scores: ClassScores, graph: GraphReader, chosen: str) -> str:
        """FP32 [batch, 1]"""
        if scores.linear is None or not scores.linear.bias:
            zeros = self._constant(np.zeros(scores.classes))
            return self._node("Gather", zeros, chosen)
        flat = self._node("Reshape", scores.linear.bias, self._constant([-1]))
        return self._as_float(self._node("Gather", flat, chosen), graph.kind(scores.linear.bias))

    def _channels(self, scores: ClassScores, graph: GraphReader) -> int:
        if scores.linear is None:
            return scores.classes
        dims = graph.shape(scores.linear.weights) or ()
        channels = dims[0 if scores.linear.is_transposed else 1]
        if not isinstance(channels, int):
            raise ExplanationError(
                f"weights '{scores.linear.weights}' have dims {list(dims)}, not two numbers"
            )
        return channels

    def _sizes(self, maps: str, image: str, graph: GraphReader, sides: tuple[int | str, int | str]) -> str:
        """INT64 [4]: batch, 1, and the sides of the image."""
        batch = self._node("Slice", self._node("Shape", maps), self._constant([0]), self._constant([1]))
        if all(isinstance(side, int) for side in sides):
            height_and_width = self._constant(list(sides))
        else:
            start = 1 if (graph.shape(image) or ())[3] in CHANNELS else 2
            shape = self._node("Shape", image)
            height_and_width = self._node(
                "Slice", shape, self._constant([start]), self._constant([start + 2])
            )
        return self._node("Concat", batch, self._constant([1]), height_and_width, axis=0)

    def _nothing_instead(self, count: int) -> list[str]:
        """Inputs of Resize that `sizes` replaces: left out, or empty where this opset wants them."""
        if self._opset >= AXES_AS_INPUT:
            return [""] * count
        return [self._constant(np.zeros(0, np.float32)) for _ in range(count)]

    def _as_float(self, name: str, kind: int) -> str:
        return name if kind == TensorProto.FLOAT else self._node("Cast", name, to=TensorProto.FLOAT)

    def _over(self, axis: int, op: str, name: str, output: str = "", **attributes: int) -> str:
        """A node of one axis, as this opset wants it."""
        if self._opset >= AXES_AS_INPUT:
            return self._node(op, name, self._constant([axis]), output=output, **attributes)
        return self._node(op, name, output=output, axes=[axis], **attributes)

    def _constant(self, values: object) -> str:
        """Integers are INT64, other numbers FP32."""
        array, name = np.asarray(values), next(self._names)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _node(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or next(self._names)
        self._graph.node.append(
            helper.make_node(op, inputs, [name], name=f"{PREFIX}{op} {name}", **attributes)
        )
        return name
