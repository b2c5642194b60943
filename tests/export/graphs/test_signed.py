"""What is quantised for CPUs, as TensorRT has it: INT8 around 0, biases in float, ReLUs of their own."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export.graphs.preparation import quantised_types
from export.graphs.signed import signed


def model_of(zero_point):
    """x -> Q/DQ -> MatMul -> + bias of INT32."""
    constants = {
        "scale": np.float32(4 / 255),
        "zero": np.uint8(zero_point),
        "w": np.array([[1, -2], [3, 4]], np.int8),
        "w_scale": np.float32(0.5),
        "w_zero": np.int8(0),
        "b": np.array([100, -100], np.int32),
        "b_scale": np.float32(0.01),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["weights"]),
        helper.make_node("MatMul", ["d", "weights"], ["product"]),
        helper.make_node("DequantizeLinear", ["b", "b_scale"], ["bias"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def answer(model, x):
    options = onnxruntime.SessionOptions()  # as it is written: its fused integer kernels round once more
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


X = np.array([[0.5, 1.5], [-1, 3], [-9, 9]], np.float32)  # inside, and beyond both ends


def check(model, within):
    changed = signed(model)
    onnx.checker.check_model(changed, full_check=True)
    assert quantised_types(changed) == {TensorProto.INT8}
    kinds = {tensor.data_type for tensor in changed.graph.initializer}
    assert kinds == {TensorProto.FLOAT, TensorProto.INT8}
    np.testing.assert_allclose(answer(changed, X), answer(model, X), atol=within)
    assert changed.graph.input == model.graph.input
    assert changed.graph.output == model.graph.output


def test_a_relu_in_the_range_stays_one():
    """With a zero point of 0 there is nothing below 0, and -9 must not come out as -4."""
    check(model_of(0), within=0.05)


def test_a_range_around_zero_keeps_its_step():
    check(model_of(128), within=0.05)


def test_graphs_that_are_not_for_cpus_come_back():
    model = model_of(0)
    again = signed(signed(model))
    assert again == signed(model)
