"""Bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2), on real pictures.

Rounded weights shift the mean of what a layer computes: by their error, times the mean of its input. The bias
takes that back. (Taking the rounding of the inputs back as well was tried, and changed next to nothing.)
"""

from collections.abc import Collection

import numpy as np

from export.pipelines.quantization.layers import LayerGraph
from export.pipelines.quantization.quantiser import rounded_weights
from export.pipelines.quantization.ranges import Range

__all__ = ["corrected"]


def corrected(graph: LayerGraph, ranges: dict[str, Range], float_layers: Collection[str]) -> LayerGraph:
    """A copy of the graph, with other biases in all layers that will be INT8; padding is not counted."""
    copy = LayerGraph(graph.model)
    for layer in copy.layers.values():
        in_groups = layer.groups > 1 and not layer.depthwise
        if layer.name in float_layers or len(layer.node.input) < 3 or in_groups:
            continue
        error = layer.weights - rounded_weights(copy, layer)
        by_input = error.reshape(*error.shape[:2], -1).sum(2)  # [outputs, inputs]
        mean = ranges[layer.node.input[0]].mean
        shift = by_input[:, 0] * mean if layer.depthwise else by_input @ mean
        name = layer.node.input[2]
        copy.set_constant(name, (copy.constant(name) + shift).astype(np.float32))
    return copy
