"""The spec of a model that is a file: tensors named as in the file, and no network behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from export.common.errors import SpecError
from export.pipelines.onnx_files.tensors import FileGraphTensor
from export.sources.specs.spec import ModelSpec, Tensor

__all__ = ["FileSpec", "FileTensor"]


class FileTensor(Tensor):
    """A tensor under any name that Triton accepts."""

    def __post_init__(self) -> None:
        """Names and types were looked at in the graph."""

    @classmethod
    def of(
        cls, tensor: FileGraphTensor, skip: int, labels: Callable[[], Sequence[str]] | None = None
    ) -> "FileTensor":
        """As the graph has it; `skip`: 1 where the first dim is the batch."""
        dims = tuple(dim if isinstance(dim, int) else -1 for dim in (tensor.dims or ())[skip:])
        return cls(tensor.name, tensor.dtype, dims, labels=labels)

    def __str__(self) -> str:
        dims = ", ".join("?" if dim == -1 else str(dim) for dim in self.dims)
        return f"{self.name} {'string' if self.dtype == 'object' else self.dtype} [{dims}]"


def _no_network() -> None:
    raise SpecError("a model that was made of an ONNX file has no network")


@dataclass(frozen=True)
class FileSpec(ModelSpec):
    """max_batch_size: 0 for a model that does not batch; dims are then those of the graph."""

    network: Callable[..., Any] = _no_network
    served: Callable[..., Any] = _no_network
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    max_batch_size: int = 0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """The name and the tensors were looked at before."""
