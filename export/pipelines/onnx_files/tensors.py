"""What an ONNX graph takes and returns, as Triton can say it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from export.common.errors import OnnxFileError
from export.graphs.checks.indices import index_limits
from export.pipelines.serving.sampling import Input

__all__ = ["FileGraphTensor", "check_types", "graph_inputs", "graph_outputs", "narrowed", "sample_inputs"]

NOT_TENSORS = {
    "sequence_type": "a sequence",
    "map_type": "a map",
    "optional_type": "optional",
    "sparse_tensor_type": "a sparse tensor",
}
UNSERVED = "which Triton's ONNX Runtime backend does not serve"
SERVED_TYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "object"),
)


@dataclass(frozen=True)
class FileGraphTensor:
    """dtype: numpy's name ("object" for strings). dims: numbers, or symbols where they are open; None where
    the graph declares no shape at all."""

    name: str
    dtype: str
    dims: tuple[int | str, ...] | None

    @property
    def open_batch(self) -> bool:
        """Is there a first dimension that may be any number?"""
        return self.dims is None or (bool(self.dims) and isinstance(self.dims[0], str))

    def __str__(self) -> str:
        dims = "?" if self.dims is None else ", ".join(str(dim) for dim in self.dims)
        return f"{self.name} {self.dtype} [{dims}]"


def check_types(model: onnx.ModelProto) -> None:
    """Raise `OnnxFileError` with every input and output that Triton cannot serve."""
    problems = []
    weights = {tensor.name for tensor in model.graph.initializer}
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            if kind == "input" and value.name in weights:
                continue
            problems += [f"{kind} {value.name!r} {problem}" for problem in _problems(value)]
    if any(node.op_type == "ZipMap" for node in model.graph.node):
        problems.append(
            "convert scikit-learn's classifier with options={'zipmap': False}: then it returns an array"
        )
    names = [value.name for value in (*model.graph.input, *model.graph.output) if value.name not in weights]
    problems += [f"tensor name {name!r} is given twice" for name in {n for n in names if names.count(n) > 1}]
    if problems:
        raise OnnxFileError("it cannot be served:\n" + "\n".join(f"  - {text}" for text in problems))


def _problems(value: onnx.ValueInfoProto) -> list[str]:
    found = []
    if not value.name or re.search(r"[\x00-\x1f\x7f]", value.name):
        found.append("has a name with control characters, or none; rename it")
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return [*found, f"is {NOT_TENSORS.get(kind, 'of no type')}, {UNSERVED}; return tensors"]
    if _dtype(value) not in SERVED_TYPES:
        name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        return [*found, f"is {name}, {UNSERVED}; cast it inside the graph"]
    dims = value.type.tensor_type.shape.dim
    if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in dims):
        found.append("has a dim of 0, so that it is always empty")
    return found


def _dtype(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type.elem_type
    if kind in (onnx.TensorProto.BFLOAT16, onnx.TensorProto.UNDEFINED):
        return ""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name
    except (KeyError, TypeError):
        return ""


def graph_inputs(model: onnx.ModelProto) -> list[FileGraphTensor]:
    """What must be fed: inputs that have no initializer."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_graph_tensor(value) for value in model.graph.input if value.name not in weights]


def graph_outputs(model: onnx.ModelProto) -> list[FileGraphTensor]:
    """As the file declares them, in its order; ONNX Runtime may know numbers for open dims."""
    return [_graph_tensor(value) for value in model.graph.output]


def _graph_tensor(value: onnx.ValueInfoProto) -> FileGraphTensor:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return FileGraphTensor(value.name, _dtype(value), None)
    dims = tuple(_dim(value, axis, dim) for axis, dim in enumerate(tensor.shape.dim))
    return FileGraphTensor(value.name, _dtype(value), dims)


def _dim(value: onnx.ValueInfoProto, axis: int, dim: onnx.TensorShapeProto.Dimension) -> int | str:
    """A number, or the symbol of an open dim. Some exporters write -1 or "?" for one without a name."""
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return dim.dim_value
    return dim.dim_param if dim.dim_param not in ("", "?", "-1", "None") else f"{value.name}_{axis}"


def narrowed(
    tensors: list[FileGraphTensor], wanted: Mapping[str, tuple[int, ...]], skip: int
) -> list[FileGraphTensor]:
    """Inputs with open dims given a number by the user. `skip`: 1 where the first dim is the batch.

    Raises `OnnxFileError` when the graph does not allow it.
    """
    known = {tensor.name for tensor in tensors}
    if unknown := sorted(set(wanted) - known):
        raise OnnxFileError(f"--dims names {', '.join(unknown)}; the inputs are {', '.join(sorted(known))}")
    found = []
    for tensor in tensors:
        dims = wanted.get(tensor.name)
        if dims is None:
            found.append(tensor)
            continue
        own = (tensor.dims or ())[skip:]
        fits = len(own) == len(dims) and all(
            isinstance(graph, str) or given in (graph, -1) for graph, given in zip(own, dims, strict=True)
        )
        if not fits:
            raise OnnxFileError(
                f"--dims gives {tensor.name} {list(dims)}, and the graph has {list(own)}"
                + (" without the batch" if skip else "")
            )
        kept = tuple(graph if given == -1 else given for graph, given in zip(own, dims, strict=True))
        found.append(FileGraphTensor(tensor.name, tensor.dtype, (*(tensor.dims or ())[:skip], *kept)))
    return found


def sample_inputs(model: onnx.ModelProto, tensors: list[FileGraphTensor], skip: int) -> list[Input]:
    """The inputs of one item, with what the graph says of the indices that it takes."""
    tops = index_limits(model)
    return [
        Input(tensor.name, np.dtype(tensor.dtype), (tensor.dims or ())[skip:], tops.get(tensor.name))
        for tensor in tensors
    ]
