"""A detector's graph with the tensors of ours: pixels in, boxes in pixels and a score for each class out.

`image` UINT8 [batch, height, width, 3] in RGB goes through what its family does to pixels into the graph's
own input; what the graph answers becomes `boxes` FP32 [batch, places, 4], left, top, right and bottom in
pixels of the input, and `scores` FP32 [batch, places, classes]. The graph in between is not touched.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.common.errors import DetectorError
from export.graphs.detectors.families import PIXELS
from export.graphs.detectors.recognition import Recognised

__all__ = ["BOXES", "IMAGE", "INNER", "OLDEST_OPSET", "SCORES", "fed_with_pixels", "with_boxes_and_scores"]

IMAGE, BOXES, SCORES = "image", "boxes", "scores"
INNER = "network/"  # before every name of the graph that is taken in
OLDEST_OPSET = 11  # of Slice and OneHot as they are written here
BATCH = "batch"


class _Writer:
    """Appends nodes and constants to a graph, whose names are its own."""

    def __init__(self, graph: onnx.GraphProto, role: str) -> None:
        self.graph, self.role, self.nodes = graph, role, 0

    def constant(self, array: NDArray[np.generic]) -> str:
        name = f"{self.role}/constant_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        self.nodes += 1
        name = f"{self.role}/{kind}_{self.nodes}"
        self.graph.node.append(helper.make_node(kind, inputs, [output or name], name, **attributes))
        return output or name

    def columns(self, tensor: str, start: int, end: int) -> str:
        """Of the last of three dims."""
        bounds = (np.array([value], np.int64) for value in (start, end, 2))
        return self.add("Slice", [tensor, *map(self.constant, bounds)])


def fed_with_pixels(
    model: onnx.ModelProto, size: tuple[int, int], pixels: str, is_bgr: bool = False
) -> onnx.ModelProto:
    """A copy that takes `image`; its other names begin with "network/". size: height and width.

    pixels: a key of `PIXELS`; not looked at where the graph takes UINT8 itself. Raises `DetectorError`.
    """
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise DetectorError(f"it is of opset {opset}: export it with opset {OLDEST_OPSET} or newer")
    inner = onnx.compose.add_prefix(model, INNER)
    value = inner.graph.input[0]
    kind, dims = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
    planes_first = dims[1].dim_value == 3 or dims[3].dim_value != 3
    batch = dims[0].dim_value or BATCH
    graph = onnx.GraphProto()
    writer = _Writer(graph, "pixels")
    found = IMAGE
    if is_bgr:
        found = writer.add("Gather", [found, writer.constant(np.array([2, 1, 0], np.int64))], axis=3)
    if kind != TensorProto.UINT8:
        mean, std = (PIXELS[pixels].mean, PIXELS[pixels].std)
        found = writer.add("Cast", [found], to=TensorProto.FLOAT)
        for operator, numbers, nothing in (("Sub", mean, 0), ("Div", std, 1)):
            if any(number != nothing for number in numbers):
                by_plane = np.array(numbers[::-1] if is_bgr else numbers, np.float32)
                found = writer.add(operator, [found, writer.constant(by_plane)])
    if planes_first:
        found = writer.add("Transpose", [found], perm=[0, 3, 1, 2])
    last: dict[str, Any] = {"to": kind} if kind not in (TensorProto.UINT8, TensorProto.FLOAT) else {}
    writer.add("Cast" if last else "Identity", [found], value.name, **last)
    del inner.graph.input[0]
    inner.graph.input.insert(0, helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [batch, *size, 3]))
    _prepend(inner.graph, graph)
    return inner


def _prepend(graph: onnx.GraphProto, before: onnx.GraphProto) -> None:
    nodes = [*before.node, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(before.initializer)


def with_boxes_and_scores(
    model: onnx.ModelProto, found: Recognised, size: tuple[int, int], classes: int, places: int
) -> onnx.ModelProto:
    """A copy of a graph of `fed_with_pixels` that answers `boxes` and `scores`, and nothing else.

    found: what its outputs are, by their own names. size: height and width.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    writer = _Writer(made.graph, "answer")
    tables = [writer.add("Cast", [f"{INNER}{name}"], to=TensorProto.FLOAT) for name in found.outputs]
    if found.is_turned:
        tables[0] = writer.add("Transpose", [tables[0]], perm=[0, 2, 1])
    if found.is_nested:
        tables[1] = writer.add("Reshape", [tables[1], writer.constant(np.array([0, -1, 4], np.int64))])
    write = {
        "yolo": _yolo,
        "queries": _yolo,
        "yolo-object": _yolo_object,
        "end-to-end": _end_to_end,
        "rt-detr": _rt_detr,
        "detr": _detr,
        "ssd": _none_last if found.none_last else _none_first,
        "boxes-and-scores": _as_they_are,
    }[found.family.name]
    boxes, scores = write(writer, tables, classes)
    boxes = _corners(writer, boxes, found.boxes)
    height, width = size if found.in_shares else (1, 1)
    writer.add("Mul", [boxes, writer.constant(np.array([width, height, width, height], np.float32))], BOXES)
    writer.add("Identity", [scores], SCORES)
    batch = made.graph.input[0].type.tensor_type.shape.dim[0]
    dim = batch.dim_value or batch.dim_param
    del made.graph.output[:]
    for name, count in ((BOXES, 4), (SCORES, classes)):
        made.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [dim, places, count]))
    return made


def _corners(writer: _Writer, boxes: str, kind: str) -> str:
    """Left, top, right and bottom, of boxes of a key of `FORMATS`."""
    if kind == "yxyx":
        return writer.add("Gather", [boxes, writer.constant(np.array([1, 0, 3, 2], np.int64))], axis=2)
    if kind == "xyxy":
        return boxes
    first, last = writer.columns(boxes, 0, 2), writer.columns(boxes, 2, 4)
    if kind == "xywh":
        return writer.add("Concat", [first, writer.add("Add", [first, last])], axis=2)
    half = writer.add("Mul", [last, writer.constant(np.array(0.5, np.float32))])
    sides = [writer.add("Sub", [first, half]), writer.add("Add", [first, half])]
    return writer.add("Concat", sides, axis=2)


def _yolo(writer: _Writer, tables: list[str], classes: int) -> tuple[str, str]:
    (table,) = tables
    return writer.columns(table, 0, 4), writer.columns(table, 4, 4 + classes)


def _yolo_object(writer: _Writer, tables: list[str], classes: int) -> tuple[str, str]:
    (table,) = tables
    scores = writer.add("Mul", [writer.columns(table, 5, 5 + classes), writer.columns(table, 4, 5)])
    return writer.columns(table, 0, 4), scores


def _end_to_end(writer: _Writer, tables: list[str], classes: int) -> tuple[str, str]:
    """The score stands in the column of its class. A row without a score or a class above 0 and -1 fills up
    the table: it is all zeros."""
    (table,) = tables
    score, number = writer.columns(table, 4, 5), writer.columns(table, 5, 6)
    nothing, none = (writer.constant(np.array(value, np.float32)) for value in (0, -1))
    above = [writer.add("Greater", [score, nothing]), writer.add("Greater", [number, none])]
    is_there = writer.add("And", above)
    boxes, score = (
        writer.add("Where", [is_there, tensor, nothing]) for tensor in (writer.columns(table, 0, 4), score)
    )
    is_class = writer.add("Equal", [number, writer.constant(np.arange(classes, dtype=np.float32))])
    share = writer.add("Cast", [is_class], to=TensorProto.FLOAT)
    return boxes, writer.add("Mul", [share, score])


def _rt_detr(writer: _Writer, tables: list[str], classes: int) -> tuple[str, str]:
    logits, boxes = tables
    return boxes, writer.add("Sigmoid", [logits])


def _detr(writer: _Writer, tables: list[str], classes: int) -> tuple[str, str]:
    logits, boxes = tables
    return boxes, writer.columns(writer.add("Softmax", [logits], axis=2), 0, classes)


def _as_they_are(writer: _Writer, tables: list[str], classes: int) -> tuple[str, str]:
    scores, boxes = tables
    return boxes, scores


def _none_first(writer: _Writer, tables: list[str], classes: int) -> tuple[str, str]:
    probabilities, boxes = tables
    return boxes, writer.columns(probabilities, 1, 1 + classes)


def _none_last(writer: _Writer, tables: list[str], classes: int) -> tuple[str, str]:
    probabilities, boxes = tables
    return boxes, writer.columns(probabilities, 0, classes)
