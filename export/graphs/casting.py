"""UINT8 inputs become floats before anything else happens to them.

TensorRT has UINT8 at the edge of a network only, where nothing but a cast to a float may take it
(`tensorrt.DataType.UINT8`): a transpose, or a reshape that refuses sizes, is refused for it. Networks that
begin with one mean the same with the cast in front, to the bit.
"""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

__all__ = ["cast_first", "uncast_inputs"]

LAYOUT = {"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"}  # they only move elements
SHAPES = {"Shape", "Size"}  # they read no values
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def cast_first(graph: bytes) -> bytes:
    """The file's bytes with casts to floats at its UINT8 inputs.

    An input that is read in another way than through layout and one kind of cast stays as it is, and so does
    a graph with branches or loops.
    """
    model = onnx.load_from_string(graph)
    if any(entry.HasField("g") for node in model.graph.node for entry in node.attribute):
        return graph  # what a branch or a loop reads from outside of it is not among its inputs
    moved = [_moved(model.graph, value.name) for value in _bytes_of(model.graph)]
    return model.SerializeToString(deterministic=True) if any(moved) else graph


def uncast_inputs(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """UINT8 inputs that something else than a cast to a float reads: the input, and what reads it."""
    for value in _bytes_of(model.graph):
        for node in model.graph.node:
            if value.name in node.input and not _is_cast_to_float(node):
                yield value.name, f"{node.op_type} ({node.name})"


def _bytes_of(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [value for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8]


def _is_cast_to_float(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i in FLOATS


def _moved(graph: onnx.GraphProto, name: str) -> bool:
    """Whether the graph was changed: its casts of this input stand behind it now, as one."""
    casts = _casts_behind(graph, name)
    if not casts or all(node in casts for node in graph.node if name in node.input):
        return False
    kind = casts[0].attribute[0].i
    if any(cast.attribute[0].i != kind for cast in casts):
        return False
    floats = f"{name}_as_float"
    for node in graph.node:
        if node not in casts:
            node.input[:] = [floats if source == name else source for source in node.input]
    outputs = {output.name for output in graph.output}
    for cast in casts:  # what it has is a float already
        before = floats if cast.input[0] == name else cast.input[0]
        if cast.output[0] in outputs:
            cast.CopyFrom(helper.make_node("Identity", [before], [*cast.output], name=cast.name))
            continue
        for node in graph.node:
            node.input[:] = [before if source == cast.output[0] else source for source in node.input]
        graph.node.remove(cast)
    graph.node.insert(0, helper.make_node("Cast", [name], [floats], name=f"{name}_cast", to=kind))
    del graph.value_info[:]  # some had the old type
    return True


def _casts_behind(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """Those that an input's elements reach through layout alone; none if anything else reads them."""
    casts, names = [], [name]
    for source in names:  # which grows
        for node in graph.node:
            if source not in node.input or node.op_type in SHAPES:  # a float's shape is the same
                continue
            if _is_cast_to_float(node):
                casts.append(node)
            elif node.op_type in LAYOUT and node.input[0] == source:
                names += node.output
            else:
                return []
    return [] if {output.name for output in graph.output} & set(names) else casts
