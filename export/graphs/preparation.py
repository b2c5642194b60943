"""The graph that TensorRT takes: types where it has them, and the precision in the graph itself.

TensorRT's networks are strongly typed here (`commands.build_command`), so a precision is a graph of that
precision: fp16 is converted, int8 and fp8 must have been quantised with Q/DQ nodes before.
"""

import onnx
from onnx import TensorProto

from export.common.errors import PlanError
from export.graphs.casting import uncast_inputs
from export.sources.specs.spec import ModelSpec

__all__ = ["PRECISIONS", "prepare", "tolerance_of"]

# Where a spec has no tolerance for a precision: how much farther than the ONNX file an answer may be from
# PyTorch's, in the spec's tolerance. A float16 has 11 bits, a float32 24.
TOLERANCE_FACTORS = {"fp32": 2, "fp16": 600, "int8": 1000, "fp8": 1000}
PRECISIONS = tuple(TOLERANCE_FACTORS)

# In fp32 also in an fp16 graph: sums of many exponentials, and GRUs, whose rounding errors would add up along
# the line (and which ONNX Runtime has no fp16 kernel for on a CPU, so nothing could be verified).
KEPT_IN_FP32 = ["Softmax", "LogSoftmax", "GRU", "LSTM"]

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
            f"{precision} needs a graph with Q/DQ nodes of that type, and this one has none: quantise the "
            "network in PyTorch with NVIDIA's ModelOpt, export that as a spec of your own "
            "(docs/how-to/export.md), and build its plan with this precision; or choose fp16"
        )
    if TensorProto.UINT8 in quantised:
        raise PlanError(
            "the graph quantises to UINT8, as is fast on CPUs, and TensorRT has INT8 with zero points of 0 "
            "only: build the plan of the FP32 model, with --precision fp16"
        )
    if precision not in QUANTISED and quantised:
        kinds = [name for name, kind in QUANTISED.items() if kind in quantised]
        raise PlanError(f"the graph has Q/DQ nodes, and is no {precision} graph: choose {' or '.join(kinds)}")
    _require_casts(prepared)
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


def _require_casts(model: onnx.ModelProto) -> None:
    for name, reader in uncast_inputs(model):
        raise PlanError(
            f"input {name} is UINT8 and goes into {reader}, which TensorRT has for floats only: cast it to "
            "float32 first in the network's forward, or export the model again if it was exported before "
            "casts came first"
        )


def _to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = convert_float_to_float16(model, keep_io_types=True, op_block_list=KEPT_IN_FP32)
    tidy = OnnxModel(converted)
    tidy.topological_sort()  # it appends its casts at the end
    return tidy.model
