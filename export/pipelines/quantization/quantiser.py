"""A float graph and the ranges of its tensors become a graph of Q/DQ pairs, by ONNX Runtime's own tool.

Weights are S8 with a scale for each output channel, activations U8 with one for the tensor (U8S8): the pair
for which processors with VNNI have an instruction. Processors without it (AVX2) add two products in 16 bits
and saturate; each channel's scale is therefore so wide that no two neighbouring weights add up to more than
128: 128 * 255 fits. That costs less than the 7-bit weights of `reduce_range`, and no processor saturates.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from export.pipelines.quantization.layers import BOUNDS, LAYERS, Layer, LayerGraph
from export.pipelines.quantization.ranges import Range

__all__ = ["quantise", "rounded_weights"]

S8_MAX = 127


def quantise(
    graph: LayerGraph, ranges: dict[str, Range], float_layers: Collection[str] = ()
) -> onnx.ModelProto:
    """The quantised graph, in which these layers, and the additions behind them, stay in float."""
    nodes = [
        node
        for node in graph.nodes
        if (sources := graph.sources(node)) and not sources & set(float_layers) and node.name
    ]
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    if not nodes:
        return model
    quantiser = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=_tensors_data(ranges),
        nodes_to_quantize=[node.name for node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=[*LAYERS, *BOUNDS, "Add"],
        extra_options={"TensorQuantOverrides": _weight_ranges(graph, {node.name for node in nodes})},
    )
    quantiser.quantize_model()
    _add_float_shortcuts(quantiser.model.model, {node.output[0] for node in nodes})
    quantiser.model.topological_sort()  # the tool appends its nodes at the end
    return quantiser.model.model


def _add_float_shortcuts(model: onnx.ModelProto, quantised: set[str]) -> None:
    """Let float nodes read what float nodes wrote: the tool gives them the rounded values of a Q/DQ pair that
    was put there for another reader. `quantised` are the outputs of the nodes that are INT8."""
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") or node.output[0] in quantised:
            continue
        for index, name in enumerate(node.input):
            source = _before_rounding(producers, name)
            if source and source not in quantised:
                node.input[index] = source


def _before_rounding(producers: dict[str, onnx.NodeProto], name: str) -> str | None:
    """The tensor whose Q/DQ pair ends in this one, if a node makes it."""
    dequantise = producers.get(name)
    if dequantise is None or dequantise.op_type != "DequantizeLinear":
        return None
    pair = producers.get(dequantise.input[0])
    return pair.input[0] if pair is not None and pair.input[0] in producers else None


def _tensors_data(ranges: dict[str, Range]) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: found.limits for name, found in ranges.items()},
    )


def _weight_ranges(graph: LayerGraph, nodes: set[str]) -> dict[str, list[dict[str, Any]]]:
    """For each channel the range that 127 stands for."""
    overrides = {}
    for layer in graph.layers.values():
        if layer.node.name in nodes:
            overrides[layer.name] = [
                {"axis": 0, "rmin": -widest, "rmax": widest, "symmetric": True}
                for widest in _widest(graph, layer)
            ]
    return overrides


def rounded_weights(graph: LayerGraph, layer: Layer) -> NDArray[Any]:
    """The layer's weights as the quantised graph has them, FP32."""
    weights = graph.constant(layer.name)
    scale = (_widest(graph, layer) / S8_MAX).reshape(-1, *[1] * (weights.ndim - 1))
    return np.round(weights / scale) * scale


def _widest(graph: LayerGraph, layer: Layer) -> NDArray[Any]:
    """FP32 [output channels]: the largest of the weights, and of the sums of neighbours.

    Neighbours are those that ONNX Runtime's products take together: channels last, in pairs.
    """
    weights = graph.constant(layer.name)
    if layer.depthwise:  # whose products have 32 bits on every processor
        return np.maximum(np.abs(weights).reshape(len(weights), -1).max(1), np.finfo(np.float32).tiny)
    rows = np.moveaxis(weights, 1, -1).reshape(len(weights), -1)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
    sums = np.abs(rows[:, 0::2] + rows[:, 1::2]).max(1)
    # Both may be rounded up, so 127 and not 128 is what two of them may make.
    return np.maximum(np.maximum(np.abs(rows).max(1), sums), np.finfo(np.float32).tiny).astype(np.float32)
