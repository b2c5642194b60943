"""Non-maximum suppression inside a detector's graph: is there any, and the graph without it."""

from collections.abc import Iterator

import onnx
from onnx import helper

__all__ = ["SELECTED", "suppressions", "takes_centres", "with_selected", "without_suppression"]

KIND = "NonMaxSuppression"
SELECTED = "taken_out/selected"  # [n, 3]: picture, class and place of each box that its suppression chooses


def suppressions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that do it, those inside of Loop and If among them."""
    return [node for node in _nodes(model.graph) if node.op_type == KIND]


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _nodes(inner)


def without_suppression(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A graph that answers what its suppression is given: boxes [batch, places, 4], and scores [batch,
    places, classes]. None where several nodes do it, or one for a single photograph or class, as in a loop.

    Whether corners have x or y first is not told by the node, which finds the same boxes either way.
    """
    if len(suppressions(model)) != 1:
        return None
    node = next((node for node in model.graph.node if node.op_type == KIND), None)
    if node is None:  # in a loop
        return None
    boxes, scores = node.input[:2]
    shapes = {
        value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    if batch.dim_param and any(shapes.get(name, [""])[0] == 1 for name in (boxes, scores)):
        return None  # of one photograph only
    made = onnx.ModelProto()
    made.CopyFrom(model)
    added = [helper.make_node("Transpose", [scores], ["taken_out/scores"], perm=[0, 2, 1])]
    added.append(helper.make_node("Identity", [boxes], ["taken_out/boxes"]))
    made.graph.node.extend(added)
    del made.graph.output[:]
    kind = onnx.TensorProto.FLOAT
    made.graph.output.extend(
        [
            helper.make_tensor_value_info("taken_out/scores", kind, [None, None, None]),
            helper.make_tensor_value_info("taken_out/boxes", kind, [None, None, 4]),
        ]
    )
    _prune(made.graph)
    return made


def takes_centres(model: onnx.ModelProto) -> bool:
    """Whether its suppression is given centre, width and height: the one thing that a node says of boxes."""
    return any(
        attribute.name == "center_point_box" and attribute.i == 1
        for node in suppressions(model)
        for attribute in node.attribute
    )


def with_selected(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that answers as well which boxes its only suppression chooses."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    (node,) = suppressions(made)
    made.graph.node.append(helper.make_node("Identity", [node.output[0]], [SELECTED]))
    made.graph.output.append(helper.make_tensor_value_info(SELECTED, onnx.TensorProto.INT64, [None, 3]))
    return made


def _prune(graph: onnx.GraphProto) -> None:
    """Take out the nodes and the constants that no output needs."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            needed.update(name for inner in _inner(node) for one in _nodes(inner) for name in one.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _inner(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]
