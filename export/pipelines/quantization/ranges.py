"""What values the tensors of a graph take, per channel, on the samples that it is calibrated with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.graphs.conversion import stack
from export.pipelines.quantization.layers import LayerGraph
from export.pipelines.quantization.sessions import session
from export.sources.specs.spec import Sample

__all__ = ["Range", "observe"]

BATCH = 8


@dataclass(frozen=True)
class Range:
    """The least, the greatest and the mean value of each channel, [channels]; the channels are axis 1."""

    least: NDArray[Any]
    greatest: NDArray[Any]
    mean: NDArray[Any]

    @property
    def largest(self) -> NDArray[Any]:
        """Of the absolute values."""
        return np.maximum(-self.least, self.greatest)

    @property
    def limits(self) -> tuple[np.float32, np.float32]:
        """Of all channels, with 0 between them: what 0 and 255 stand for."""
        return np.float32(min(self.least.min(), 0)), np.float32(max(self.greatest.max(), 0))

    def scaled(self, factors: NDArray[Any]) -> "Range":
        """Of values that are multiplied by `factors`, FP [channels], all above 0."""
        return Range(self.least * factors, self.greatest * factors, self.mean * factors)

    def joined(self, other: "Range") -> "Range":
        """Of both sets of samples; `mean` is a part of the mean until all are joined."""
        return Range(
            np.minimum(self.least, other.least),
            np.maximum(self.greatest, other.greatest),
            self.mean + other.mean,
        )


def observe(
    graph: LayerGraph, names: list[str], samples: list[Sample], progress: Callable[[str], None]
) -> dict[str, Range]:
    """Run the graph on the samples, and keep the ranges of these tensors."""
    found: dict[str, Range] = {}
    for name, values in _values(graph, names, samples, progress):
        axes = tuple(axis for axis in range(values.ndim) if axis != 1)
        share = len(values) / len(samples)
        new = Range(values.min(axes), values.max(axes), values.mean(axes, np.float64) * share)
        found[name] = found[name].joined(new) if name in found else new
    return found


def _values(
    graph: LayerGraph, names: list[str], samples: list[Sample], progress: Callable[[str], None]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every tensor's values, batch by batch."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    model.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in names if name not in graph.outputs
    )
    observing = session(model)
    inputs = [value.name for value in observing.get_inputs()]
    for first in range(0, len(samples), BATCH):
        progress(f"calibrating on picture {first} of {len(samples)}")
        batch = stack(samples[first : first + BATCH])
        feed = dict(zip(inputs, batch, strict=True))
        yield from zip(names, observing.run(names, feed), strict=True)
