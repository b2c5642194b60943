"""Weights that are not finite, and masks that need not be."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.common.errors import OnnxFileError
from tests.export.pipelines.onnx_files.files import BOOL, FLOAT, INT64, Door, linear, model, node

NAN, INF = np.nan, np.inf
VALUES = {NAN: "1 NaN, 0 inf", INF: "0 NaN, 1 inf", -INF: "0 NaN, 1 inf"}


def spoilt(value: float, *dims: int) -> np.ndarray:
    array = np.random.default_rng(1).normal(size=dims).astype(np.float32)
    array.flat[1] = value
    return array


def constant(array: np.ndarray, output: str) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [output], value=numpy_helper.from_array(array, output))


def in_a_branch(nodes: list[onnx.NodeProto], weight: np.ndarray) -> onnx.ModelProto:
    """These nodes, from `a` to `b`, with their weight `w2` in both branches of an If."""

    def branch() -> onnx.GraphProto:
        made = [helper.make_node(one.op_type, one.input, one.output) for one in nodes]
        output = helper.make_tensor_value_info("b", FLOAT, None)
        return helper.make_graph(made, "branch", [], [output], [numpy_helper.from_array(weight, "w2")])

    chosen = helper.make_node("If", ["always"], ["c"], then_branch=branch(), else_branch=branch())
    return linear([chosen, node("Relu", "c")], weights=[("always", np.array(True))])


def after(*nodes: onnx.NodeProto, **weights: np.ndarray) -> onnx.ModelProto:
    return linear(list(nodes), weights=list(weights.items()))


# Each hides what is not finite from whoever looks at the answers.
LAYERS = {
    "a product": lambda v: after(node("MatMul", "a w2", "b"), node("Relu", "b"), w2=spoilt(v, 4, 4)),
    "a product before a sigmoid": lambda v: after(
        node("MatMul", "a w2", "b"), node("Sigmoid", "b"), w2=spoilt(v, 4, 4)
    ),
    "a linear layer": lambda v: after(node("Gemm", "a w2", "b"), node("Relu", "b"), w2=spoilt(v, 4, 4)),
    "its bias": lambda v: after(
        node("Gemm", "a w2 b2", "b"), node("Relu", "b"), w2=spoilt(1, 4, 4), b2=spoilt(v, 4)
    ),
    "a bias that is added": lambda v: after(
        node("MatMul", "a w2", "b"), node("Add", "b b2", "c"), node("Relu", "c"),
        w2=spoilt(1, 4, 4), b2=spoilt(v, 4),
    ),
    "a scale": lambda v: after(node("Mul", "a s", "b"), node("Sigmoid", "b"), s=spoilt(v, 4)),
    "a constant in a node": lambda v: linear(
        [constant(spoilt(v, 4, 4), "w2"), node("MatMul", "a w2", "b"), node("Relu", "b")]
    ),
    "one that is transposed first": lambda v: after(
        node("Transpose", "w2", "t"), node("MatMul", "a t", "b"), node("Relu", "b"), w2=spoilt(v, 4, 4)
    ),
    "one in a branch": lambda v: in_a_branch([node("MatMul", "a w2", "b")], spoilt(v, 4, 4)),
    "a bias that a transposed weight leads to": lambda v: after(
        node("Transpose", "w2", "t"), node("MatMul", "a t", "b"), node("Add", "b b2", "c"), node("Relu", "c"),
        w2=spoilt(1, 4, 4), b2=spoilt(v, 4),
    ),
    "a bias of zeros": lambda v: after(
        node("Add", "a b2", "b"), node("Sigmoid", "b"), b2=np.array([0, v, 0, 0], np.float32)
    ),
    "a table of embeddings": lambda v: after(
        node("ArgMax", "a", "i", axis=1), node("Squeeze", "i one", "at"), node("Gather", "table at", "e"),
        node("Tanh", "e"), table=spoilt(v, 4, 4), one=np.array([1]),
    ),
    "one that is pruned by a choice": lambda v: after(
        node("Where", "keep w2 none", "pruned"), node("MatMul", "a pruned", "b"), node("Relu", "b"),
        keep=np.ones((4, 4), bool), w2=spoilt(v, 4, 4), none=np.float32(0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_weight_that_is_not_finite_is_named_however_sound_the_answers_look(
    door: Door, layer: str, value: float
):
    with pytest.raises(OnnxFileError, match="values that are not finite") as raised:
        door.publish(LAYERS[layer](value))
    assert VALUES[value] in str(raised.value)
    assert "before training diverged" in str(raised.value)
    assert door.empty


def chosen_by_a_branch(value: float) -> onnx.ModelProto:
    """A matrix that is itself what both branches of an If give."""

    def branch() -> onnx.GraphProto:
        output = helper.make_tensor_value_info("w2", FLOAT, [4, 4])
        return helper.make_graph(
            [], "branch", [], [output], [numpy_helper.from_array(spoilt(value, 4, 4), "w2")]
        )

    chosen = helper.make_node("If", ["always"], ["m"], then_branch=branch(), else_branch=branch())
    return after(chosen, node("MatMul", "a m", "b"), node("Relu", "b"), always=np.array(True))


def carried_by_a_loop(value: float) -> onnx.ModelProto:
    """A vector that goes into the first turn of a Loop, which multiplies its state by a matrix each turn."""
    body = helper.make_graph(
        [node("MatMul", "state square", "next"), node("Identity", "go", "still")],
        "body",
        [
            helper.make_tensor_value_info("turn", INT64, []),
            helper.make_tensor_value_info("go", BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, [1, 4]),
        ],
        [
            helper.make_tensor_value_info("still", BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, [1, 4]),
        ],
    )
    loop = helper.make_node("Loop", ["turns", "yes", "first"], ["last"], body=body)
    return after(
        loop, node("Mul", "a last", "b"), node("Sigmoid", "b"),
        turns=np.array(2), yes=np.array(True), first=spoilt(value, 1, 4), square=spoilt(1, 4, 4),
    )  # fmt: skip


def given_to_a_function(kind: str, constant: np.ndarray) -> onnx.ModelProto:
    """A constant that is an argument of a function of the file, in which this operator takes it."""
    own = helper.make_opsetid("own", 1)
    body = [node(kind, "p q", "r"), node("Softmax", "r", "s", axis=-1)]
    function = helper.make_function("own", "Inner", ["p", "q"], ["s"], body, [helper.make_opsetid("", 18)])
    made = linear(
        [helper.make_node("Inner", ["a", "w2"], ["y"], domain="own")],
        weights=[("w2", constant)],
        opsets=[own],
    )
    made.functions.append(function)
    return made


INNER = {
    "the result of a branch": chosen_by_a_branch,
    "the first state of a Loop": carried_by_a_loop,
    "an argument of a function": lambda v: given_to_a_function("MatMul", spoilt(v, 4, 4)),
}


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("kind", INNER)
def test_a_weight_is_followed_into_inner_graphs_and_out_of_them(door: Door, kind: str, value: float):
    with pytest.raises(OnnxFileError, match=r"not finite(?s:.*), in MatMul"):
        door.publish(INNER[kind](value))


def test_a_mask_that_a_function_adds_is_let_be(door: Door):
    assert door.publish(given_to_a_function("Add", HIDDEN)).version == 1


ATTRIBUTES = {
    "alpha of LeakyRelu": lambda v: after(node("LeakyRelu", "a", alpha=v)),
    "beta of Gemm": lambda v: after(
        node("Gemm", "a w2 b2", "b", beta=v), node("Relu", "b"), w2=spoilt(1, 4, 4), b2=spoilt(1, 4)
    ),
}


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_an_attribute_that_is_not_finite_is_named(door: Door, attribute: str, value: float):
    with pytest.raises(OnnxFileError, match=f"(?s)not finite.*  {attribute}: {value}"):
        door.publish(ATTRIBUTES[attribute](value))


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("field", ["value_float", "value_floats", "sparse_value"])
def test_a_constant_is_looked_into_however_it_is_written(door: Door, field: str, value: float):
    values = helper.make_tensor("v", FLOAT, [1], [value])
    sparse = helper.make_sparse_tensor(values, helper.make_tensor("i", INT64, [1], [2]), [4])
    given = {"value_float": value, "value_floats": [1.0, value, 1.0, 1.0], "sparse_value": sparse}[field]
    made = linear(
        [
            helper.make_node("Constant", [], ["c"], **{field: given}),
            node("Mul", "a c", "b"),
            node("Sigmoid", "b"),
        ]
    )
    with pytest.raises(OnnxFileError, match="values that are not finite"):
        door.publish(made)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_weight_of_bfloat16_is_one_too(door: Door, value: float):
    stored = helper.make_tensor("w2", TensorProto.BFLOAT16, [4, 4], [1.0, value] + [1.0] * 14)
    made = linear([node("Cast", "w2", "t", to=FLOAT), node("MatMul", "a t", "b"), node("Sigmoid", "b")])
    made.graph.initializer.append(stored)
    with pytest.raises(OnnxFileError, match="values that are not finite"):
        door.publish(made)


def test_a_class_is_not_chosen_among_numbers_that_are_none(door: Door):
    made = model(
        [node("MatMul", "x w", "a"), node("ArgMax", "a", axis=1)],
        [("x", FLOAT, ["n", 8])],
        [("y", INT64, ["n", 1])],
        [("w", spoilt(NAN, 8, 4))],
    )
    with pytest.raises(OnnxFileError, match=r"(?s)not finite:\n  w \[8, 4\]: 1 NaN, 0 infinite"):
        door.publish(made)


@pytest.mark.parametrize("value", [NAN, INF])
def test_answers_that_are_lost_are_told_with_it(door: Door, value: float):
    scales = np.array([1, value, 1, 1], np.float32)
    made = [node("Mul", "a scales", "b"), node("Sub", "b b")]  # infinity less itself is no number
    with pytest.raises(OnnxFileError, match="output y is NaN for every sample") as raised:
        door.publish(linear(made, weights=[("scales", scales)]))
    assert f"  scales [4]: {VALUES[value]}" in str(raised.value)
    assert door.empty


SQUARE = np.triu(np.full((4, 4), -INF, np.float32), 1)
HIDDEN = np.array([0, 0, 0, -INF], np.float32)
LIMITS = np.array([INF], np.float32)
MASKS = {
    "added to what a layer gives": after(
        node("Add", "a mask", "b"), node("Softmax", "b", axis=1), mask=HIDDEN
    ),
    "added to scores, cut to their size": after(
        *(node("Unsqueeze", "a one", "q"), node("Unsqueeze", "a two", "k"), node("MatMul", "k q", "scores")),
        *(node("Slice", "mask zero four zero", "cut"), node("Add", "scores cut", "masked")),
        *(node("Softmax", "masked", "p", axis=2), node("ReduceMax", "p two", keepdims=0)),
        mask=SQUARE, zero=np.array([0]), one=np.array([1]), two=np.array([2]), four=np.array([4]),
    ),
    "subtracted": after(node("Sub", "a mask", "b"), node("Softmax", "b", axis=1), mask=-HIDDEN),
    "chosen": after(
        node("Where", "hide mask a", "b"), node("Softmax", "b", axis=1),
        hide=np.array([[False, False, False, True]]), mask=np.array(-INF, np.float32),
    ),
    "a NaN that is never chosen": after(
        node("Where", "hide never a"), hide=np.array([[False] * 4]), never=np.array(NAN, np.float32)
    ),
    "of classes, before the best is chosen": after(
        node("Add", "a mask", "b"), node("ArgMax", "b", "k", axis=1), node("Cast", "k", "f", to=FLOAT),
        node("Add", "a f"), mask=HIDDEN,
    ),
    "log priors, one class of which never is": after(
        node("Sum", "a priors", "b"), node("LogSoftmax", "b", axis=1),
        priors=np.log(np.array([0.5, 0.3, 0.2, 0], np.float32)),
    ),
    "times a slope, of which only the type counts elsewhere": after(
        node("Mul", "mask slope", "m"), node("Shape", "mask", "s"), node("CastLike", "a mask", "c"),
        node("Add", "c m", "b"), node("Softmax", "b", axis=1), mask=HIDDEN, slope=np.float32(0.5),
    ),
    "padding before a maximum": after(
        node("Pad", "a pads low", "b"), node("TopK", "b two", "y rest"),
        pads=np.array([0, 0, 0, 3]), low=np.float32(-INF), two=np.array([4]),
    ),
    "a NaN that says there is no answer": after(
        node("Where", "hide never zeros", "n"), node("Add", "a n"), hide=np.array([[False] * 4]),
        never=np.array(NAN, np.float32), zeros=np.float32(0),
    ),
    "a bound": after(node("Min", "a most", "b"), node("Relu", "b"), most=LIMITS),
    "a bound of a clip": after(node("Clip", "a low high"), low=np.float32(0), high=np.float32(INF)),
    "not used": after(node("Relu", "a"), rest=spoilt(NAN, 3)),
}  # fmt: skip


@pytest.mark.parametrize("mask", MASKS)
def test_infinities_that_a_network_has_on_purpose_are_let_be(door: Door, mask: str):
    assert door.publish(MASKS[mask]).version == 1
