"""Is a tensor the mean, over all places, of another one? Settled by running the nodes in between.

People and exporters write this mean in many ways: as one pooling; as a mean over width and then over height,
or over both in one dim; with dims of one dropped, or moved. PyTorch makes of its adaptive pooling, where the
pixels lie channels-last, a mean and a view of it, which ONNX has as a Gather of computed indices. All that is
asked of the nodes is that they are linear: those that are, and give the mean of random numbers for batches of
several sizes, give it of any.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.pipelines.class_maps.reader import GraphReader, attributes_of

__all__ = ["averaged", "moved_from"]

AVERAGING = ("GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceSum")
SCALING = ("Mul", "Div")  # by a constant: a sum becomes a mean
UNTOUCHED = ("Identity", "Dropout", "Cast")
MOVING = (
    *("Flatten", "Reshape", "Squeeze", "Unsqueeze"),
    *("Transpose", "Gather", "GatherND", "Slice", "Expand"),
)
SHAPES = ("Shape", "Size")  # read no values
NEARNESS: dict[int, float] = {
    TensorProto.FLOAT: 1e-4,
    TensorProto.DOUBLE: 1e-4,
    TensorProto.FLOAT16: 1e-2,
}  # of means
BATCHES = (1, 2, 3)
OPEN_SIDES = (4, 3)  # of features whose height and width the graph leaves open
OPEN_DIM = 32  # of another input


def averaged(graph: GraphReader, name: str) -> tuple[str, int] | None:
    """The tensor of rank 4 that `name` is the mean of, over all places, and its dim of channels, 1 or 3.

    The nearest one, where there are several, as where a pooling of 2 x 2 goes before. None: there is none.
    """
    is_pooled, source = False, name
    while (node := graph.makers.get(source)) is not None and _is_linear(graph, node):
        is_pooled |= node.op_type in AVERAGING
        source = _data(graph, node)
        shape = graph.shape(source)
        if not is_pooled or shape is None or len(shape) != 4:
            continue
        for channel, places in ((1, (2, 3)), (3, (1, 2))):
            dims = dict(zip(places, OPEN_SIDES, strict=True))
            sizes = [size if isinstance(size, int) else dims.get(at) for at, size in enumerate(shape)]
            mean = partial(_mean, places)
            if isinstance(shape[channel], int) and _gives(graph, source, sizes, name, mean):
                return source, channel
    return None


def _mean(places: tuple[int, int], features: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(features.mean(places), np.float64)


def moved_from(graph: GraphReader, name: str) -> str:
    """The tensor of one number per channel whose numbers `name` has, in other dims maybe; else `name` itself.

    Where dims of that tensor are not known they are taken to be one.
    """
    source = name
    while (node := graph.makers.get(source)) is not None and node.op_type in MOVING:
        if not _is_linear(graph, node):
            break
        source = _data(graph, node)
    shape = graph.shape(source)
    if source == name or shape is None or len(shape) < 2:
        return name
    sizes = [shape[0] if isinstance(shape[0], int) else None]
    sizes += [size if isinstance(size, int) else 1 for size in shape[1:]]
    if sum(size != 1 for size in sizes[1:]) > 1:
        return name
    is_same = _gives(graph, source, sizes, name, lambda given: given.reshape(len(given), -1))
    return source if is_same else name


def _is_linear(graph: GraphReader, node: onnx.NodeProto) -> bool:
    """Of the one input that depends on values of the graph's inputs."""
    if node.op_type == "Cast" and attributes_of(node)["to"] not in NEARNESS:
        return False
    if node.op_type in SCALING:
        varying = [name for name in node.input if not graph.is_constant(name)]
        return len(varying) == 1 and (node.op_type == "Mul" or varying[0] == node.input[0])
    others = (*AVERAGING, *UNTOUCHED, *MOVING)
    return node.op_type in others and _are_of_shapes(graph, node.input[1:])


def _data(graph: GraphReader, node: onnx.NodeProto) -> str:
    if node.op_type in SCALING:
        return next(name for name in node.input if not graph.is_constant(name))
    return node.input[0]


def _are_of_shapes(graph: GraphReader, names: Iterable[str]) -> bool:
    """Whether these tensors are the same for all inputs of the same dims."""
    names, seen = list(names), set[str]()
    for name in names:  # which grows
        if graph.is_constant(name) or name in seen:
            continue
        seen.add(name)
        node = graph.makers.get(name)
        if node is None:
            return False
        if node.op_type not in SHAPES:
            names += node.input
    return True


def _gives(
    graph: GraphReader,
    source: str,
    sizes: list[int | None],
    name: str,
    expected: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> bool:
    """Whether `name` has the numbers that are expected, [batch, numbers], for random ones of `source`.

    sizes: of `source`, None for an open batch.
    """
    kind = graph.kind(source) or TensorProto.FLOAT
    rest = [size for size in sizes[1:] if size is not None]
    if kind not in NEARNESS or len(rest) < len(sizes) - 1:
        return False
    random = np.random.default_rng(0)
    try:
        session = _session(graph, source, kind, name)
        for batch in BATCHES if sizes[0] is None else (sizes[0],):
            given = random.normal(size=[batch, *rest]).astype(helper.tensor_dtype_to_np_dtype(kind))
            wanted = expected(given.astype(np.float64))
            others = {one.name: _nothing(graph, one.name, batch) for one in session.get_inputs()}
            (found,) = session.run([name], {**others, source: given})
            if found.size != wanted.size:
                return False
            if not np.allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=NEARNESS[kind]):
                return False
    except Exception:  # whatever these nodes are, they do not take such a tensor
        return False
    return True


def _session(graph: GraphReader, source: str, kind: int, name: str) -> onnxruntime.InferenceSession:
    """Of the nodes that make `name` of `source`."""
    needed, names = set[str](), [name]
    for one in names:  # which grows
        if one not in needed and one != source:
            needed.add(one)
            names += graph.makers[one].input if one in graph.makers else ()
    whole, part = graph.model, onnx.GraphProto(name="part")
    part.node.extend(node for node in whole.graph.node if not needed.isdisjoint(node.output))
    part.initializer.extend(tensor for tensor in whole.graph.initializer if tensor.name in needed)
    part.input.extend(value for value in whole.graph.input if value.name in needed)
    part.input.append(onnx.ValueInfoProto(name=source, type=helper.make_tensor_type_proto(kind, None)))
    part.output.append(onnx.ValueInfoProto(name=name))
    model = helper.make_model(part, functions=whole.functions, opset_imports=whole.opset_import)
    model.ir_version = whole.ir_version
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def _nothing(graph: GraphReader, name: str, batch: int) -> NDArray[Any]:
    """For another input of the graph, whose dims alone are read."""
    first, *rest = graph.shape(name) or (batch,)
    dims = [first if isinstance(first, int) else batch]
    dims += [size if isinstance(size, int) else OPEN_DIM for size in rest]
    return np.zeros(dims, helper.tensor_dtype_to_np_dtype(graph.kind(name) or TensorProto.FLOAT))
