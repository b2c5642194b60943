"""The INT8 graph of an FP32 one, step by step: observe, equalise, choose layers, correct biases, quantise."""

from collections.abc import Callable

import onnx

from export.common.errors import ConversionError, SpecError
from export.pipelines.quantization.correction import corrected
from export.pipelines.quantization.equalisation import equalise
from export.pipelines.quantization.layers import LayerGraph
from export.pipelines.quantization.quantiser import quantise
from export.pipelines.quantization.ranges import observe
from export.pipelines.quantization.search import find_float_layers
from export.pipelines.quantization.sessions import answers, session
from export.sources.specs.spec import Quantization

__all__ = ["make_int8"]


def make_int8(
    fp32: bytes, quantization: Quantization, progress: Callable[[str], None]
) -> tuple[onnx.ModelProto, tuple[str, ...], int]:
    """The quantised graph, its layers in float, and how many layers there are.

    Raises `SpecError` when the spec names a layer that is not there, `ConversionError` when there is none.
    """
    graph = LayerGraph(onnx.load_from_string(fp32))
    if not graph.layers:
        raise ConversionError(
            "the graph has no convolution and no matrix product with constant weights: serve FP32"
        )
    unknown = set(quantization.float_layers or ()) - set(graph.layers)
    if unknown:
        raise SpecError(
            f"the graph has no layers {', '.join(sorted(unknown))}, which the spec keeps in float; it has "
            f"{', '.join(graph.layers)}. Search them anew with --search"
        )
    samples = quantization.calibration()
    ranges = equalise(graph, observe(graph, graph.activations, samples, progress))
    float_layers = quantization.float_layers
    if float_layers is None:
        reference = answers(session(fp32), samples, quantization.judged)
        float_layers = find_float_layers(graph, ranges, samples, reference, progress, quantization.judged)
    progress("quantising")
    model = quantise(corrected(graph, ranges, float_layers), ranges, float_layers)
    return model, float_layers, len(graph.layers)
