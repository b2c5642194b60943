"""A graph without its weights: what shapes follow from, in a few kilobytes and without other files.

Large weights become inputs of the same type and shape, so that ONNX Runtime loads a graph of gigabytes at
once and folds only what shapes are made of. External data is read where it is small, and only beside the
graph.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper

from server.environment.regular_files import open_regular

__all__ = ["SkeletonError", "external_data", "skeleton", "with_sizes"]

SMALL_ELEMENTS = 512  # of a tensor that may say a shape
LOCATION = "location"


class SkeletonError(ValueError):
    """The graph cannot be had without reading more than is safe."""


def skeleton(model: ModelProto, folder: Path) -> ModelProto:
    """The model with its large weights as inputs. folder: where its external data may be.

    Raises `SkeletonError` where external data that is needed is not to be had.
    """
    bare = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = bare.graph
    graph.name = model.graph.name or "graph"
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    named = {value.name for value in graph.input}
    for node in model.graph.node:
        tensor = _large_constant(node)
        if tensor is None:
            _inline(graph.node.add(), node, folder)
        else:
            graph.input.append(helper.make_tensor_value_info(node.output[0], tensor.data_type, tensor.dims))
    for tensor in model.graph.initializer:
        if _elements(tensor) <= SMALL_ELEMENTS:
            graph.initializer.append(_here(tensor, folder))
        elif tensor.name not in named:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bare


def with_sizes(bare: ModelProto, sizes: Mapping[str, Sequence[int]]) -> ModelProto:
    """The same graph with these sizes for open dims of inputs, first to last, and no shape of its outputs."""
    model = ModelProto()
    model.CopyFrom(bare)
    del model.graph.value_info[:]
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes.get(value.name, ()), strict=False):
            if not dim.HasField("dim_value"):
                dim.dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return model


def external_data(model: ModelProto, folder: Path) -> bool:
    """Is all external data of the graph in files beside it, with no way out of the folder?"""
    return all(_file(tensor, folder) for tensor in _tensors(model.graph) if _is_external(tensor))


def _inline(node: onnx.NodeProto, original: onnx.NodeProto, folder: Path) -> None:
    node.CopyFrom(original)
    for attribute in node.attribute:
        for tensor in (attribute.t, *attribute.tensors):
            if _is_external(tensor):
                tensor.CopyFrom(_here(tensor, folder))
        for graph in (attribute.g, *attribute.graphs):
            for tensor in _tensors(graph):
                if _is_external(tensor):
                    tensor.CopyFrom(_here(tensor, folder))


def _large_constant(node: onnx.NodeProto) -> TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR and _elements(attribute.t) > SMALL_ELEMENTS:
            return attribute.t
    return None


def _here(tensor: TensorProto, folder: Path) -> TensorProto:
    """The tensor with its data in it."""
    if not _is_external(tensor):
        return tensor
    file = _file(tensor, folder)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if file is None or _elements(tensor) > SMALL_ELEMENTS:
        raise SkeletonError(f"tensor {tensor.name!r} is in {entries.get(LOCATION)!r}, which is not read")
    made = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    try:
        width = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        with open_regular(file) as data:
            data.seek(int(entries.get("offset", 0)))
            made.raw_data = data.read(_elements(tensor) * width)
    except (OSError, ValueError, KeyError) as error:
        raise SkeletonError(f"tensor {tensor.name!r} cannot be read: {error}") from error
    return made


def _file(tensor: TensorProto, folder: Path) -> Path | None:
    """Of external data, a regular file in the folder (its links followed); else None."""
    location = next((entry.value for entry in tensor.external_data if entry.key == LOCATION), "")
    try:
        file = (folder / location).resolve()
        inside = file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError, RuntimeError):
        return None
    return file if location and inside else None


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


def _elements(tensor: TensorProto) -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count
