"""What an ONNX file declares, and what ONNX Runtime makes of it: that is what Triton's backend sees."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import onnx
from onnx import TensorProto

from export.lint.reading.sessions import SessionFacts
from server.environment.regular_files import NotRegularError, open_regular, read_regular

__all__ = ["GraphError", "LintedGraph", "LintedTensor", "is_lfs_pointer", "read_graph"]

TRITON_TYPES: dict[int, str] = {
    TensorProto.BOOL: "TYPE_BOOL",
    TensorProto.UINT8: "TYPE_UINT8",
    TensorProto.UINT16: "TYPE_UINT16",
    TensorProto.UINT32: "TYPE_UINT32",
    TensorProto.UINT64: "TYPE_UINT64",
    TensorProto.INT8: "TYPE_INT8",
    TensorProto.INT16: "TYPE_INT16",
    TensorProto.INT32: "TYPE_INT32",
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.BFLOAT16: "TYPE_BF16",  # not of every release: TV212
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.DOUBLE: "TYPE_FP64",
    TensorProto.STRING: "TYPE_STRING",
}
LFS_HEADER = b"version https://git-lfs.github.com/spec/"


class GraphError(ValueError):
    """The file holds no ONNX model."""


@dataclass(frozen=True)
class LintedTensor:
    """data_type: Triton's name, or ONNX's where the backend does not take the type; dims: -1 where open.

    shaped: whether the number of dims is known.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    supported: bool = True
    shaped: bool = True

    @property
    def shape(self) -> str:
        """For messages: "[-1, 3, 224, 224]", with -1 where a dim is open."""
        return f"[{', '.join(map(str, self.dims))}]"


class LintedGraph:
    """inputs: what must be fed; overridable: inputs that have a value in the graph; declared: outputs as
    written.

    ask: what says of the graph's outputs, given the names of inputs that begin with an open dim.
    """

    def __init__(
        self, path: Path, model: onnx.ModelProto, ask: Callable[["LintedGraph", set[str]], SessionFacts]
    ) -> None:
        self.path, self.model, self._ask = path, model, ask
        weights = {tensor.name for tensor in model.graph.initializer}
        tensors = {value.name: _tensor(value) for value in model.graph.input}
        self.inputs = {name: tensor for name, tensor in tensors.items() if name not in weights}
        self.overridable = {name: tensor for name, tensor in tensors.items() if name in weights}
        self.declared = {value.name: _tensor(value) for value in model.graph.output}
        self.ir_version: int = model.ir_version
        self.opset: int = self.opsets.get("", 0)

    @cached_property
    def opsets(self) -> dict[str, int]:
        """By domain; the domain of ONNX itself is ""."""
        return {
            "" if entry.domain == "ai.onnx" else entry.domain: entry.version
            for entry in self.model.opset_import
        }

    @property
    def batchable(self) -> bool:
        """All tensors begin with an open dim, which is what auto-complete asks for."""
        tensors = (*self.inputs.values(), *self.outputs.values())
        return all(tensor.dims and tensor.dims[0] == -1 for tensor in tensors)

    @cached_property
    def session(self) -> SessionFacts:
        """What ONNX Runtime says of the outputs. Asked once, at the first look, in a process of its own."""
        return self._ask(self, {name for name, tensor in self.inputs.items() if tensor.dims[:1] == (-1,)})

    @cached_property
    def outputs(self) -> dict[str, LintedTensor]:
        """All by name, with the dims that ONNX Runtime gives them; as declared where it says nothing."""
        known = self.session.outputs
        return {
            name: replace(tensor, dims=known[name], shaped=bool(known[name]) or tensor.shaped)
            if name in known and tensor.supported
            else tensor
            for name, tensor in self.declared.items()
        }

    def missing_data(self) -> list[str]:
        """A sentence for every file of external data that is not there, or too short."""
        ends: dict[str, int] = {}
        for tensor in _initializers(self.model.graph):
            if tensor.data_location == TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                location = entries.get("location", "")
                end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
                ends[location] = max(ends.get(location, 0), end)
        problems = []
        for location, end in sorted(ends.items()):
            file = self.path.parent / location
            if not file.is_file():
                problems.append(f"its weights are in {location!r}, which is not beside it")
            elif file.stat().st_size < end:
                size = file.stat().st_size
                problems.append(f"its weights need {end} bytes of {location!r}, which has {size}")
        return problems


def read_graph(path: Path, ask: Callable[[LintedGraph, set[str]], SessionFacts]) -> LintedGraph:
    """Raises `GraphError` when the file is no ONNX model. Weights in other files are not read."""
    try:
        if not (data := read_regular(path)):
            raise GraphError("it is empty")
        model = onnx.load_from_string(data)
    except GraphError:
        raise
    except Exception as error:  # a truncated or foreign file raises whatever protobuf runs into
        raise GraphError(f"it cannot be parsed ({type(error).__name__}: {error})") from error
    if not model.HasField("graph") or not model.ir_version:
        raise GraphError("it holds no graph")
    return LintedGraph(path, model, ask)


def is_lfs_pointer(path: Path) -> bool:
    """Is this the small text that Git LFS leaves where the file was not fetched?"""
    try:
        with open_regular(path) as file:
            return file.read(len(LFS_HEADER)) == LFS_HEADER
    except NotRegularError:  # TV121
        return False


def _initializers(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for inner in (attribute.g, *attribute.graphs):
                yield from _initializers(inner)


def _tensor(value: onnx.ValueInfoProto) -> LintedTensor:
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        return LintedTensor(value.name, kind.removesuffix("_type"), (), supported=False)
    element = value.type.tensor_type.elem_type
    data_type = TRITON_TYPES.get(element) or TensorProto.DataType.Name(element)
    shaped = value.type.tensor_type.HasField("shape")
    return LintedTensor(value.name, data_type, _dims(value), element in TRITON_TYPES, shaped)


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    shape = value.type.tensor_type.shape
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in shape.dim)
