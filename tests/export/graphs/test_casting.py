"""Casts come before transposes and reshapes of bytes, and answers stay the same to the bit."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graphs.casting import cast_first, uncast_inputs

X = np.array([[1, 2], [3, 4], [5, 6]], np.uint8)
TURN = helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0], name="turn")


def model_of(*nodes, kind=TensorProto.FLOAT, constants=()):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "g",
        [value("x", TensorProto.UINT8, ["n", 2])],
        [value("y", kind, ["m", "k"])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, name=f"{kind}_{outputs[0]}", **attributes)


def cast(source, to=TensorProto.FLOAT, result="float"):
    return node("Cast", [source], [result], to=to)


def answer(graph):
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]


SHAPE = numpy_helper.from_array(np.array([1, -1]), "shape")
MOVED = {
    "behind a transpose": model_of(TURN, cast("turned"), node("Relu", ["float"], ["y"])),
    "behind a reshape": model_of(
        node("Reshape", ["x", "shape"], ["line"]), cast("line", result="y"), constants=[SHAPE]
    ),
    "whose shape is read": model_of(
        cast("x"), node("Shape", ["x"], ["size"]), node("Reshape", ["float", "size"], ["y"])
    ),
    "whose shape is read behind a transpose": model_of(
        TURN, cast("turned"), node("Shape", ["turned"], ["size"]), node("Reshape", ["float", "size"], ["y"])
    ),
    "cast twice": model_of(
        TURN, cast("turned"), cast("turned", result="again"), node("Add", ["float", "again"], ["y"])
    ),
}


@pytest.mark.parametrize("model", MOVED.values(), ids=MOVED)
def test_the_cast_comes_first_and_answers_stay(model):
    before = model.SerializeToString()
    after = cast_first(before)
    moved = onnx.load_from_string(after)
    onnx.checker.check_model(moved, full_check=True)
    assert [reader.op_type for reader in moved.graph.node if "x" in reader.input] == ["Cast"]
    assert not list(uncast_inputs(moved))
    assert [reader.op_type for reader in moved.graph.node].count("Cast") == 1
    np.testing.assert_array_equal(answer(before), answer(after))
    assert cast_first(after) == after


BRANCH = helper.make_graph(
    [helper.make_node("Cast", ["turned"], ["b"], to=TensorProto.FLOAT)],
    "branch",
    [],
    [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["m", "k"])],
)
YES = numpy_helper.from_array(np.array(True), "yes")
LEFT = {
    "added as bytes": model_of(TURN, node("Add", ["turned", "turned"], ["sum"]), cast("sum", result="y")),
    "an answer itself": model_of(
        TURN, cast("turned"), node("Identity", ["turned"], ["y"]), kind=TensorProto.UINT8
    ),
    "cast to integers": model_of(TURN, cast("turned", TensorProto.INT32, "y"), kind=TensorProto.INT32),
    "read in a branch": model_of(
        TURN,
        cast("turned"),
        node("If", ["yes"], ["y"], then_branch=BRANCH, else_branch=BRANCH),
        constants=[YES],
    ),
}


@pytest.mark.parametrize("model", LEFT.values(), ids=LEFT)
def test_what_reads_bytes_otherwise_stays_and_is_named(model):
    graph = model.SerializeToString()
    assert cast_first(graph) == graph
    assert list(uncast_inputs(model)) == [("x", "Transpose (turn)")]
