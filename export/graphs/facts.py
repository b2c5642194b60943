"""What an ONNX file says of itself."""

from dataclasses import dataclass
from pathlib import Path

import onnx

__all__ = ["GraphFacts", "GraphTensor", "facts_of", "read_facts"]


@dataclass(frozen=True)
class GraphTensor:
    """A declared input or output: numpy dtype, and dims with the batch (None where not a constant)."""

    name: str
    dtype: str
    dims: tuple[int | None, ...]

    def __str__(self) -> str:
        return (
            f"{self.name} {self.dtype} [{', '.join('?' if dim is None else str(dim) for dim in self.dims)}]"
        )


@dataclass(frozen=True)
class GraphFacts:
    """Tensors in the graph's order; `inputs` without those that have an initializer.

    `opset` is of the default ONNX domain, 0 where the file imports none.
    """

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    opset: int
    ir_version: int
    metadata: dict[str, str]


def facts_of(model: onnx.ModelProto) -> GraphFacts:
    """The declared tensors, versions and metadata of a loaded model."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return GraphFacts(
        inputs=tuple(_tensor(value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(_tensor(value) for value in model.graph.output),
        opset=max(
            (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0
        ),
        ir_version=model.ir_version,
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def read_facts(path: Path) -> GraphFacts | None:
    """The facts of a file, or None if there is no readable ONNX model in it."""
    try:
        return facts_of(onnx.load(path, load_external_data=False))
    except Exception:  # a truncated or foreign file raises whatever protobuf runs into
        return None


def _tensor(value: onnx.ValueInfoProto) -> GraphTensor:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return GraphTensor(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, dims)
