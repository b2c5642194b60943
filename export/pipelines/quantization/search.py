"""Which layers must stay in float: measured on the calibration's pictures, not on those that judge."""

import math
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from export.common.wording import counted
from export.pipelines.quantization.agreement import divergence
from export.pipelines.quantization.correction import corrected
from export.pipelines.quantization.layers import LayerGraph
from export.pipelines.quantization.quantiser import quantise
from export.pipelines.quantization.ranges import Range
from export.pipelines.quantization.sessions import Judged, answers, session
from export.sources.specs.spec import Sample

__all__ = ["find_float_layers"]

SENSITIVITY_SAMPLES = 60  # of the pictures, for each layer alone
ENOUGH = 0.005  # nats of divergence at which the search ends
MOST_FLOAT = 0.6  # of the layers


def find_float_layers(
    graph: LayerGraph,
    ranges: dict[str, Range],
    samples: list[Sample],
    fp32: NDArray[Any],
    progress: Callable[[str], None],
    judged: Judged | None = None,
) -> tuple[str, ...]:
    """Names of layers, the most sensitive first: those that have to stay in float for answers to be close.

    Each layer is quantised alone, which gives its divergence; then the worst ones are left in float, one
    after the other. If that is never enough, those that came closest. `fp32` holds the samples' answers.
    """
    names = list(graph.layers)
    some = slice(None, None, max(1, len(samples) // SENSITIVITY_SAMPLES))

    def harm_of(float_layers: list[str], which: slice) -> float:
        model = quantise(corrected(graph, ranges, float_layers), ranges, float_layers)
        return divergence(fp32[which], answers(session(model), samples[which], judged))

    harm = {}
    for number, name in enumerate(names, start=1):
        progress(f"layer {number} of {len(names)} alone in INT8")
        others = [other for other in names if other != name]
        harm[name] = harm_of(others, some)
    order = sorted(names, key=lambda name: -harm[name])
    reached: dict[int, float] = {}
    for count in range(math.ceil(len(order) * MOST_FLOAT) + 1):
        progress(f"{counted(count, 'layer')} in float")
        reached[count] = harm_of(order[:count], slice(None))
        if reached[count] <= ENOUGH:
            break
    return tuple(order[: min(reached, key=reached.__getitem__)])
