"""The graph that TensorRT takes: types where it has them, and the precision in the graph itself.

TensorRT's networks are strongly typed here (`commands.build_command`), so a precision is a graph of that
precision: fp16 is converted, int8 and fp8 must have been quantised with Q/DQ nodes before.
"""

import onnx
from onnx import TensorProto, helper

from export.common.errors import PlanError
from export.specs.spec import ModelSpec

__all__ = ["PRECISIONS", "prepare", "tolerance_of"]

# Where a spec has no tolerance for a precision: how much farther than the ONNX file an answer may be from
# PyTorch's, in the spec's tolerance. A float16 has 11 bits, a float32 24.
TOLERANCE_FACTORS = {"fp32": 2, "fp16": 600, "int8": 1000, "fp8": 1000}
PRECISIONS = tuple(TOLERANCE_FACTORS)

# In fp32 also in an fp16 graph: sums of many exponentials, and GRUs, whose rounding errors would add up along
# the line (and which ONNX Runtime has no fp16 kernel for on a CPU, so nothing could be verified).
KEPT_IN_FP32 = ["Softmax", "LogSoftmax", "GRU", "LSTM"]

# They move elements and do not look at them.
LAYOUT = {"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"}
SHAPES = {"Shape", "Size"}  # read no values
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
QUANTISED = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}


def tolerance_of(spec: ModelSpec, precision: str) -> float:
    """How far a plan's answers may be from PyTorch's, in units of the outputs."""
    return spec.tolerances.get(precision, spec.tolerance * TOLERANCE_FACTORS[precision])


def prepare(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A graph with the same inputs and outputs, of the same types, for a plan of this precision.

    precision: fp32, fp16, int8 or fp8. The model itself is not changed. Raises `PlanError` for one that
    TensorRT cannot take, or that is not of the precision and cannot be converted to it here.
    """
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    quantised = quantised_types(prepared)
    if precision in QUANTISED and QUANTISED[precision] not in quantised:
        raise PlanError(
            f"{precision} needs a graph with Q/DQ nodes of that type, and this one has none. Nothing here "
            "makes one: quantise the network in PyTorch with NVIDIA's ModelOpt, export that as a spec of "
            "your own (docs/how-to/export.md), and build its plan with this precision; or choose fp16"
        )
    if TensorProto.UINT8 in quantised:
        raise PlanError(
            "the graph quantises to UINT8, as is fast on CPUs, and TensorRT has INT8 with zero points of 0 "
            "only: build the plan of the FP32 model, with --precision fp16"
        )
    if precision not in QUANTISED and quantised:
        kinds = [name for name, kind in QUANTISED.items() if kind in quantised]
        raise PlanError(f"the graph has Q/DQ nodes, and is no {precision} graph: choose {' or '.join(kinds)}")
    _cast_first(prepared)
    return _to_fp16(prepared) if precision == "fp16" else prepared


def quantised_types(model: onnx.ModelProto) -> set[int]:
    """The element types that the graph quantises to."""
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], entry.t.data_type) for entry in node.attribute)
    return {
        constants.get(node.input[2], 0) if len(node.input) > 2 else TensorProto.UINT8
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }


def _cast_first(model: onnx.ModelProto) -> None:
    """Cast UINT8 inputs before anything else: TensorRT has UINT8 at the edge of a network only, and must make
    floats of it at once (`tensorrt.DataType.UINT8`)."""
    graph = model.graph
    for value in graph.input:
        if value.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        casts = _casts_behind(graph, value.name)
        kind = casts[0].attribute[0].i
        if any(cast.attribute[0].i != kind for cast in casts) or kind not in FLOATS:
            raise PlanError(f"input {value.name} is UINT8 and is not cast to one kind of float; do so first")
        if all(node in casts for node in graph.node if value.name in node.input):
            continue
        name = f"{value.name}_as_float"
        for node in graph.node:
            if node.op_type != "Cast" or node not in casts:
                node.input[:] = [name if source == value.name else source for source in node.input]
        for cast in casts:  # what it has is a float already
            cast.op_type = "Identity"
            del cast.attribute[:]
            cast.input[0] = name if cast.input[0] == value.name else cast.input[0]
        first = helper.make_node("Cast", [value.name], [name], name=f"{value.name}_cast", to=kind)
        graph.node.insert(0, first)


def _casts_behind(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    casts, names = [], [name]
    for source in names:  # which grows
        for node in graph.node:
            if source not in node.input:
                continue
            if node.op_type == "Cast":
                casts.append(node)
            elif node.op_type in LAYOUT and node.input[0] == source:
                names += node.output
            elif node.op_type not in SHAPES:  # those get the float, which has the same shape
                raise PlanError(
                    f"input {name} is UINT8 and goes into {node.op_type} ({node.name}), which TensorRT "
                    "has for floats only: cast it to float32 first in the network's forward"
                )
    if not casts or {output.name for output in graph.output} & set(names):
        raise PlanError(f"input {name} is UINT8 and is never cast to a float, which TensorRT needs")
    return casts


def _to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = convert_float_to_float16(model, keep_io_types=True, op_block_list=KEPT_IN_FP32)
    tidy = OnnxModel(converted)
    tidy.topological_sort()  # it appends its casts at the end
    return tidy.model
