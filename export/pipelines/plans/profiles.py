"""The sizes that TensorRT builds for: the smallest, the one to be fastest at, and the largest, per input."""

from dataclasses import dataclass

import onnx

from export.common.errors import PlanError
from export.sources.specs.spec import ModelSpec, Tensor

__all__ = ["VARIABLE_SIZES", "PlanProfile", "profile_of", "profile_of_graph"]

OPTIMAL_BATCH = 8  # or the maximum, if that is less
VARIABLE_SIZES = (8, 512, 4096)  # of each dim of -1: smallest, optimal, largest

Dims = tuple[int, ...]


@dataclass(frozen=True)
class PlanProfile:
    """Shapes with the batch, by the name of the graph's input."""

    smallest: dict[str, Dims]
    optimal: dict[str, Dims]
    largest: dict[str, Dims]

    def texts(self) -> tuple[str, str, str]:
        """Smallest, optimal, largest as trtexec and ONNX Runtime read them: image:1x224x224x3,..."""
        return _text(self.smallest), _text(self.optimal), _text(self.largest)


def _text(shapes: dict[str, Dims]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, dims))}" for name, dims in shapes.items())


def profile_of(spec: ModelSpec, variable: tuple[int, int, int] = VARIABLE_SIZES) -> PlanProfile:
    """Batch 1 to the spec's maximum, the states included, which the graph takes as inputs.

    `variable` are the sizes of each dim of -1; what a client sends outside of them, TensorRT refuses. Raises
    `PlanError` unless they are above 0 and in order.
    """
    if not 0 < variable[0] <= variable[1] <= variable[2]:
        raise PlanError(f"sizes {variable}: give the smallest, the optimal and the largest, in this order")
    batches = (1, min(OPTIMAL_BATCH, spec.max_batch_size), spec.max_batch_size)
    return PlanProfile(
        *(
            {
                tensor.name: (batch, *(_size(tensor, index, size) for index in range(len(tensor.dims))))
                for tensor in spec.graph_inputs
            }
            for batch, size in zip(batches, variable, strict=True)
        )
    )


def profile_of_graph(
    model: onnx.ModelProto, max_batch_size: int, variable: tuple[int, int, int]
) -> PlanProfile:
    """The same of a graph without a spec; where its config has a maximum batch of 0, so are all its dims."""
    constants = {tensor.name for tensor in model.graph.initializer}
    batches = (1, min(OPTIMAL_BATCH, max_batch_size), max_batch_size) if max_batch_size else variable
    return PlanProfile(
        *(
            {
                value.name: tuple(
                    dim.dim_value or (size if axis else batch)
                    for axis, dim in enumerate(value.type.tensor_type.shape.dim)
                )
                for value in model.graph.input
                if value.name not in constants
            }
            for batch, size in zip(batches, variable, strict=True)
        )
    )


def _size(tensor: Tensor, index: int, size: int) -> int:
    """A dim's own size, or this one, but not above the spec's bound."""
    if tensor.dims[index] != -1:
        return tensor.dims[index]
    most = tensor.most(index)
    return size if most == -1 else min(size, most)
