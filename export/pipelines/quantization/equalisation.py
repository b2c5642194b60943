"""Cross-layer equalisation (Nagel et al. 2019, arXiv 1906.04721), where it is exact.

One scale serves all channels of a quantised tensor, so a channel of small values has few of the 256 steps.
Channels that no bound follows can be scaled freely: the layers that write them are multiplied, those that
read them divided, and the network computes what it did. In networks of inverted residuals these are the
narrow tensors between blocks, with the additions that tie several of them together. Tensors behind ReLU6 are
left alone: ONNX has no Clip with a limit for each channel, and their ranges are alike already.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.pipelines.quantization.layers import Layer, LayerGraph
from export.pipelines.quantization.ranges import Range

__all__ = ["equalise"]

FLOOR = 1e-3  # of the widest channel: a channel that is almost always 0 is not blown up without limit


def equalise(graph: LayerGraph, ranges: dict[str, Range]) -> dict[str, Range]:
    """Scale the graph's weights in place until the channels of each free tensor are equally wide; returns the
    ranges that the tensors have then."""
    equalised = dict(ranges)
    for tensors in _free_groups(graph):
        width = np.max([ranges[name].largest for name in tensors], axis=0)
        if not width.max() > 0:
            continue
        factors = 1 / np.maximum(width, width.max() * FLOOR)
        factors /= np.exp(np.log(factors).mean())
        for layer in graph.layers.values():
            if layer.node.output[0] in tensors:
                _multiply(graph, layer.node.input[1], factors)
                if len(layer.node.input) > 2:
                    _multiply(graph, layer.node.input[2], factors)
        for layer in graph.layers.values():
            if layer.node.input[0] in tensors:
                _multiply(graph, layer.node.input[1], 1 / factors, axis=0 if layer.depthwise else 1)
        equalised.update({name: ranges[name].scaled(factors) for name in tensors})
    return equalised


def _free_groups(graph: LayerGraph) -> list[set[str]]:
    """Sets of tensors that must be scaled together: written by layers, read by layers, tied by additions."""
    groups: list[set[str]] = []
    for layer in graph.layers.values():
        groups.append({layer.node.output[0]})
    for node in graph.nodes:
        if node.op_type == "Add" and graph.sources(node):
            tied = {*node.input, *node.output}
            touching = [group for group in groups if group & tied]
            groups = [group for group in groups if not group & tied] + [tied.union(*touching)]
    return [group for group in groups if _is_free(graph, group)]


def _is_free(graph: LayerGraph, tensors: set[str]) -> bool:
    if tensors & graph.outputs:
        return False
    for name in tensors:
        for node in graph.users(name):
            reader = _reading(graph, node, name)
            tied = node.op_type == "Add" and node.output[0] in tensors
            if not tied and (reader is None or (reader.groups > 1 and not reader.depthwise)):
                return False
        producer = graph.producers.get(name)
        if producer is None or not graph.sources(producer) or producer.op_type in ("Relu", "Clip"):
            return False
    return True


def _reading(graph: LayerGraph, node: Any, name: str) -> Layer | None:
    """The layer that reads the tensor as its input in this node."""
    return next(
        (
            layer
            for layer in graph.layers.values()
            if layer.node.output[0] == node.output[0] and node.input[0] == name
        ),
        None,
    )


def _multiply(graph: LayerGraph, name: str, factors: NDArray[Any], axis: int = 0) -> None:
    array = graph.constant(name)
    shape = [1] * array.ndim
    shape[axis] = -1
    graph.set_constant(name, (array * factors.reshape(shape)).astype(array.dtype))
