"""What a model is: one `ModelSpec` per model, from which everything else is derived.

No module that only describes models imports torch: a network is named by a function that makes it.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from export.common.errors import CheckpointError, SpecError
from export.common.packages import Package, file_sha256

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "TRITON_TYPES",
    "CommittedWeights",
    "Evaluation",
    "ModelSpec",
    "NoWeights",
    "PackagedWeights",
    "Quantization",
    "Sample",
    "State",
    "Tensor",
]

Sample = tuple[NDArray[Any], ...]  # one item, without batch dimension, in the order of the spec's inputs

# numpy's names -> Triton's; both ONNX Runtime backends serve these
TRITON_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "object": "TYPE_STRING",  # of ONNX files; PyTorch has no strings
}


@dataclass(frozen=True)
class Tensor:
    """An input or output: its public name, numpy dtype, and dims without the batch (-1: any size).

    `dtype` is a key of `TRITON_TYPES` other than "object". `dims=()` is one number for each item; clients see
    it as [1]. `labels` returns one name per class, for an output that holds one score per class; Triton then
    answers top-k requests with names. `max_dims`, for an input, is the largest size of each dim, -1 for no
    bound: the served model refuses what is larger. Raises `SpecError` for what contradicts this.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    labels: Callable[[], Sequence[str]] | None = None
    max_dims: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name):
            raise SpecError(f"tensor name {self.name!r}: use letters, digits and underscores")
        of_pytorch = [name for name in TRITON_TYPES if name != "object"]
        if self.dtype not in of_pytorch:
            raise SpecError(f"tensor {self.name} has dtype {self.dtype!r}; choose of {', '.join(of_pytorch)}")
        if not all(dim == -1 or dim > 0 for dim in self.dims):
            raise SpecError(f"tensor {self.name} has dims {self.dims}; each is positive, or -1 for any size")
        if self.max_dims is not None and not (
            len(self.max_dims) == len(self.dims) and all(map(_bounds, self.max_dims, self.dims))
        ):
            raise SpecError(
                f"tensor {self.name} has max_dims {self.max_dims} for dims {self.dims}; give the largest "
                "size of each dim of -1, or -1 for no bound, and -1 or the same where a dim is fixed"
            )

    def most(self, index: int) -> int:
        """The largest size of that dim, -1 if it has none."""
        if self.dims[index] != -1 or self.max_dims is None:
            return self.dims[index]
        return self.max_dims[index]


def _bounds(most: int, dim: int) -> bool:
    return most == -1 or (most > 0 if dim == -1 else most == dim)


@dataclass(frozen=True)
class State:
    """What one request of a sequence hands to the next, kept by Triton: an input and an output of the graph.

    `dims` are without the batch, which is first, and all are known: a sequence begins with zeros of them.
    Raises `SpecError` for a dim of -1, and for `dims=()`.
    """

    input_name: str
    output_name: str
    dtype: str
    dims: tuple[int, ...]

    def __post_init__(self) -> None:
        for tensor in (self.input, self.output):
            if -1 in tensor.dims:
                raise SpecError(
                    f"state {tensor.name} has dims {tensor.dims}; give numbers: the zeros that a sequence "
                    "begins with need a size"
                )
            if not tensor.dims:
                raise SpecError(
                    f"state {tensor.name} has dims (), which Triton has no way to write; give it (1,)"
                )

    @property
    def input(self) -> Tensor:
        """What the graph takes: `dims` without the batch, as those of a spec's own inputs."""
        return Tensor(self.input_name, self.dtype, self.dims)

    @property
    def output(self) -> Tensor:
        """What the graph returns, of the same dtype and dims as `input`."""
        return Tensor(self.output_name, self.dtype, self.dims)


@dataclass(frozen=True)
class PackagedWeights:
    """A checkpoint inside a package of the Python index or npm's: its path in the archive, and its own
    sha256 in hex.

    A file of `torch.save`, or of safetensors if its name ends so; `read` makes a state dict of another kind.
    """

    package: Package
    member: str
    sha256: str
    read: Callable[[Path], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class CommittedWeights:
    """A checkpoint that is kept beside the code: a file of `torch.save`, or of safetensors by its name."""

    path: Path

    @property
    def sha256(self) -> str:
        """The file's own, in hex. Raises `CheckpointError` when it is not there."""
        if not self.path.is_file():
            raise CheckpointError(f"no weights at {self.path}: it is a committed file, get it back with git")
        return file_sha256(self.path)


@dataclass(frozen=True)
class NoWeights:
    """Of a network with nothing to learn: what it computes is written in our code."""


@dataclass(frozen=True)
class Evaluation:
    """What a lighter model is judged by: samples, of which the first ones have these classes.

    `class_indices` are places in the last dim of the output, from 0, one for each of the first samples.
    """

    samples: list[Sample]
    class_indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Quantization:
    """What an INT8 sibling is made with.

    calibration     returns a few hundred samples like those to come: ranges are measured on them
    evaluation      returns others, on which answers are compared with those of the FP32 graph
    float_layers    the layers that stay in float, by the names of their weights, as a search found them;
                    None: search at every export, which takes minutes
    max_drop        percentage points of agreement with FP32 that may be lost, 0 to 100; --max-drop goes
                    before it
    judged          makes of a batch of outputs, by name, what is compared: [items, classes], of each item
                    shares that add up to 1; None: the first output
    """

    calibration: Callable[[], list[Sample]]
    evaluation: Callable[[], Evaluation]
    float_layers: tuple[str, ...] | None = None
    max_drop: float = 1.0
    judged: Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]] | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One model: ONNX axes, example inputs and the contract half of `config.pbtxt` are derived from it.

    Raises `SpecError` when it contradicts itself; what its functions raise comes as one at the export.

    name            the folder in the model repository, and what clients ask for
    network         makes the network whose `state_dict` a checkpoint fills (a class will do)
    served          wraps the filled network so that it takes `inputs` and returns `outputs`, in order:
                    preprocessing goes in here, hence into the graph
    inputs, outputs the tensors that clients see
    max_batch_size  1 or more; the graph is verified up to it
    tolerance       the largest absolute difference between PyTorch and the graph, in units of the outputs
    tolerances      the same for FP16 siblings and TensorRT plans, by precision ("fp16"); else a multiple
                    of `tolerance`, by `export.graphs.preparation.TOLERANCE_FACTORS`
    weights         where the checkpoint comes from; NoWeights: it needs none; None: the user brings one
    samples         returns inputs to verify with, one or more: for each item a tuple of arrays in the order
                    of `inputs`, of their dtypes and dims, without the batch; None: random ones
    states          what Triton keeps from one request of a sequence to the next; the served module takes
                    them after `inputs` and returns them after `outputs`, in this order
    quantization    what an INT8 sibling is made with; None: only with --calibration FOLDER
    precision       of the graph's inside: "fp32", or that of a sibling (export.pipelines.quantization)
    queue_limit     requests that may wait, in the policy that a new config starts with; 0: any number, and no
                    time-out, for models of well under a millisecond (docs/decisions/0013)
    cpu_batch_size  in that policy, how many items of a batch a CPU computes at a time, for networks whose
                    activations leave its cache (docs/decisions/0009); None: the whole batch
    parameters      what clients need to know, such as the characters of the classes: `parameters` of
                    `config.pbtxt`
    """

    name: str
    network: "Callable[[], nn.Module]"
    served: "Callable[[nn.Module], nn.Module]"
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int
    tolerance: float
    weights: PackagedWeights | CommittedWeights | NoWeights | None = None
    samples: Callable[[], list[Sample]] | None = None
    states: tuple[State, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    tolerances: Mapping[str, float] = field(default_factory=dict)
    quantization: Quantization | None = None
    precision: str = "fp32"
    queue_limit: int = 256
    cpu_batch_size: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name):
            raise SpecError(f"model name {self.name!r}: it becomes a folder; use letters, digits, _ . -")
        names = [tensor.name for tensor in (*self.graph_inputs, *self.graph_outputs)]
        if len(set(names)) < len(names) or not self.inputs or not self.outputs:
            raise SpecError(f"model {self.name} has tensors {names}; give each a name of its own, both ways")
        if self.max_batch_size < 1:
            raise SpecError(
                f"model {self.name} has max_batch_size {self.max_batch_size}; it must be 1 or more"
            )
        if self.cpu_batch_size is not None and not 1 <= self.cpu_batch_size <= self.max_batch_size:
            raise SpecError(
                f"model {self.name} has cpu_batch_size {self.cpu_batch_size}; it must lie between 1 and "
                f"max_batch_size, {self.max_batch_size}"
            )
        if bounded := [tensor.name for tensor in self.outputs if tensor.max_dims is not None]:
            raise SpecError(f"model {self.name} has max_dims on outputs {bounded}; they are for inputs")
        if sum(tensor.labels is not None for tensor in self.outputs) > 1:
            raise SpecError(f"model {self.name} labels two outputs; labels.txt holds the names of one")
        by_input = sorted(self.states, key=lambda state: state.input_name)
        by_output = sorted(self.states, key=lambda state: state.output_name)
        if by_input != by_output:
            pairs = ", ".join(f"{state.input_name} -> {state.output_name}" for state in by_input)
            raise SpecError(
                f"model {self.name} has states {pairs}; name their outputs so that they sort as their inputs "
                "do: Triton swaps them otherwise (server issue 8586)"
            )

    def sibling(self, precision: str) -> "ModelSpec":
        """The spec of a lighter model, "int8" or "fp16": the same tensors, under the name NAME_PRECISION."""
        return dataclasses.replace(self, name=f"{self.name}_{precision}", precision=precision)

    @property
    def graph_inputs(self) -> tuple[Tensor, ...]:
        """What the graph takes, in order: the inputs, then the states."""
        return *self.inputs, *(state.input for state in self.states)

    @property
    def graph_outputs(self) -> tuple[Tensor, ...]:
        """What the graph returns, in order: the outputs, then the states."""
        return *self.outputs, *(state.output for state in self.states)
