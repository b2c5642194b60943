"""What a model is: one `ModelSpec` per model, from which everything else is derived.

No module that only describes models imports torch: a network is named by a function that makes it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.errors import SpecError
from export.packages import Package

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TRITON_TYPES", "ModelSpec", "PackagedWeights", "Sample", "Tensor"]

Sample = tuple[np.ndarray, ...]  # one item, without batch dimension, in the order of the spec's inputs

# numpy's names -> Triton's; both ONNX Runtime backends serve these
TRITON_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
}


@dataclass(frozen=True)
class Tensor:
    """An input or output: its public name, numpy dtype, and dims without the batch (-1: any size).

    `labels` returns one name per class, for an output that holds one score per class; Triton then answers
    top-k requests with names.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    labels: Callable[[], Sequence[str]] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name):
            raise SpecError(f"tensor name {self.name!r}: use letters, digits and underscores")
        if self.dtype not in TRITON_TYPES:
            raise SpecError(
                f"tensor {self.name} has dtype {self.dtype!r}; choose of {', '.join(TRITON_TYPES)}"
            )
        if not all(dim == -1 or dim > 0 for dim in self.dims):
            raise SpecError(f"tensor {self.name} has dims {self.dims}; each is positive, or -1 for any size")


@dataclass(frozen=True)
class PackagedWeights:
    """A checkpoint inside a package of the Python index, and that file's own sha256."""

    package: Package
    member: str
    sha256: str


@dataclass(frozen=True)
class ModelSpec:
    """One model: ONNX axes, example inputs and the contract half of `config.pbtxt` are derived from it.

    name            the folder in the model repository, and what clients ask for
    network         makes the network whose `state_dict` a checkpoint fills (a class will do)
    served          wraps the filled network so that it takes `inputs` and returns `outputs`, in order:
                    preprocessing goes in here, hence into the graph
    inputs, outputs the tensors that clients see
    max_batch_size  1 or more; the graph is verified up to it
    tolerance       the largest absolute difference between PyTorch and the graph, in units of the outputs
    weights         where the checkpoint comes from; None: the user brings one
    samples         returns inputs to verify with; None: random ones
    """

    name: str
    network: "Callable[[], nn.Module]"
    served: "Callable[[nn.Module], nn.Module]"
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int
    tolerance: float
    weights: PackagedWeights | None = None
    samples: Callable[[], list[Sample]] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name):
            raise SpecError(f"model name {self.name!r}: it becomes a folder; use letters, digits, _ . -")
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        if len(set(names)) < len(names) or not self.inputs or not self.outputs:
            raise SpecError(f"model {self.name} has tensors {names}; give each a name of its own, both ways")
        if self.max_batch_size < 1:
            raise SpecError(
                f"model {self.name} has max_batch_size {self.max_batch_size}; it must be 1 or more"
            )
        if sum(tensor.labels is not None for tensor in self.outputs) > 1:
            raise SpecError(f"model {self.name} labels two outputs; labels.txt holds the names of one")
