"""Inputs, outputs, types."""

import numpy as np
from onnx import TensorProto, helper

from tests.graphs import FLOAT, STRING, graph

from .case import FAILS, REFUSED, Case, Differs, ask, config, tensor, unary

TWO = graph(
    [helper.make_node("Add", ["x", "b"], ["y"])],
    [("x", FLOAT, ["n", 1]), ("b", FLOAT, ["n", 1])],
    [("y", FLOAT, ["n", 1])],
)
DEFAULTED = graph(
    [helper.make_node("Add", ["x", "b"], ["y"])],
    [("x", FLOAT, [2]), ("b", FLOAT, [2])],
    [("y", FLOAT, [2])],
    [("b", np.array([10, 20], np.float32))],  # an input with a default: the initializer
)
DEFAULTED_IN_BATCHES = graph(
    [helper.make_node("Add", ["x", "b"], ["y"])],
    [("x", FLOAT, ["n", 1]), ("b", FLOAT, ["k", 1])],
    [("y", FLOAT, ["n", 1])],
    [("b", np.array([[10]], np.float32))],
)
TWO_OUT = graph(
    [helper.make_node("Neg", ["x"], ["b"]), helper.make_node("Abs", ["x"], ["a"])],
    [("x", FLOAT, ["n", 1])],
    [("b", FLOAT, ["n", 1]), ("a", FLOAT, ["n", 1])],
)
UNUSED = graph(
    [helper.make_node("Neg", ["x"], ["y"])],
    [("x", FLOAT, ["n", 1]), ("unused", FLOAT, ["n", 1])],
    [("y", FLOAT, ["n", 1])],
)
X, B, Y = tensor("input", "x", 1), tensor("input", "b", 1), tensor("output", "y", 1)
BATCH = "max_batch_size: 4\n"
X2, B2, Y2 = tensor("input", "x", 2), tensor("input", "b", 2), tensor("output", "y", 2)
OPTIONAL_B2 = tensor("input", "b", 2, more="optional: true")
PLUS = ask(x=[[1.0]], b=[[2.0]])


def typed(kind, more=()):
    return unary(["n", 1], op="Identity", kind=kind, **dict(more))


def of_type(kind):
    return config(kind=kind)


NEVER = "A configuration with which every request would fail"  # words of docs/reference/backend.md

CASES = [
    Case("two", TWO, BATCH + X + B + Y, ({"y": [[3.0]]},), (PLUS,)),
    Case("input_missing", TWO, BATCH + X + Y, REFUSED, says="b"),
    Case("input_unknown", TWO, BATCH + X + B + tensor("input", "c", 1) + Y, REFUSED, says="c"),
    Case("input_misnamed", TWO, BATCH + X + tensor("input", "c", 1) + Y, REFUSED, says="c"),
    Case("input_twice", TWO, BATCH + X + X + B + Y, REFUSED, says="twice"),
    Case("input_twice_alone", unary(["n", 1]), BATCH + X + X + Y, REFUSED, says="twice"),
    Case("input_twice_for_other", TWO, BATCH + X + X + Y, (FAILS,), (ask(x=[[1.0]]),), says="twice",
         differs=Differs(REFUSED, NEVER, "TV207")),
    Case("output_twice", unary(["n", 1]), BATCH + X + Y + Y, ({"y": [[-1.0]]},), (ask(x=[[1.0]]),)),
    Case("output_unknown", TWO, BATCH + X + B + tensor("output", "z", 1), REFUSED, says="z"),
    Case("output_subset", TWO_OUT, BATCH + X + tensor("output", "a", 1), ({"a": [[1.0]]},),
         (ask(x=[[1.0]]),)),
    Case("output_asked_unknown", TWO_OUT, BATCH + X + tensor("output", "a", 1), (FAILS,),
         (ask(x=[[1.0]], outputs=["b"]),)),
    Case("unused_input", UNUSED, BATCH + X + Y, REFUSED, says="unused"),
    Case("unused_input_listed", UNUSED, BATCH + X + tensor("input", "unused", 1) + Y, ({"y": [[-1.0]]},),
         (ask(x=[[1.0]], unused=[[1.0]]),)),
    Case("initializer_required", DEFAULTED, X2 + B2 + Y2, REFUSED, says="b"),
    Case("initializer_optional", DEFAULTED, X2 + OPTIONAL_B2 + Y2, ({"y": [11.0, 22.0]}, {"y": [2.0, 4.0]}),
         (ask(x=[1.0, 2.0]), ask(x=[1.0, 2.0], b=[1.0, 2.0]))),
    Case("initializer_left_out", DEFAULTED, X2 + Y2, ({"y": [11.0, 22.0]}, FAILS),
         (ask(x=[1.0, 2.0]), ask(x=[1.0, 2.0], b=[1.0, 2.0]))),
    Case("initializer_completed", DEFAULTED, "", ({"y": [11.0, 22.0]}, FAILS),
         (ask(x=[1.0, 2.0]), ask(x=[1.0, 2.0], b=[1.0, 2.0]))),
    Case("initializer_for_input", DEFAULTED, B2 + Y2, (FAILS,), (ask(b=[1.0, 2.0]),), says="b",
         differs=Differs(REFUSED, NEVER, "TV219")),
    Case("initializer_optional_type", DEFAULTED,
         X2 + tensor("input", "b", 2, "INT32", "optional: true") + Y2, REFUSED, says="b"),
    Case("initializer_optional_dims", DEFAULTED, X2 + tensor("input", "b", 3, more="optional: true") + Y2,
         REFUSED, says="b"),
    Case("initializer_optional_batch", DEFAULTED_IN_BATCHES,
         BATCH + X + tensor("input", "b", 1, more="optional: true") + Y, REFUSED, says="optional"),
    Case("initializer_in_batches", DEFAULTED_IN_BATCHES, BATCH + X + Y, ({"y": [[11.0]]},),
         (ask(x=[[1.0]]),)),
    Case("optional_real", unary([2]), tensor("input", "x", 2, more="optional: true") + Y2, REFUSED,
         says="optional"),
    Case("optional_real_second", graph([helper.make_node("Add", ["x", "b"], ["y"])],
         [("x", FLOAT, [2]), ("b", FLOAT, [2])], [("y", FLOAT, [2])]), X2 + OPTIONAL_B2 + Y2, REFUSED,
         says="optional"),
    Case("optional_unknown", unary([2]), X2 + OPTIONAL_B2 + Y2, REFUSED, says="b"),
    Case("type_of_input", unary(["n", 1]), BATCH + tensor("input", "x", 1, "INT32") + Y, REFUSED, says="x"),
    Case("type_of_output", unary(["n", 1]), BATCH + X + tensor("output", "y", 1, "FP64"), REFUSED, says="y"),
    Case("type_invalid", unary(["n", 1]), BATCH + tensor("input", "x", 1, "INVALID") + Y, REFUSED),
    Case("type_bool", typed(TensorProto.BOOL), of_type("BOOL"), ({"y": [[True]]},),
         (ask(x=np.array([[True]])),)),
    Case("type_fp16", typed(TensorProto.FLOAT16), of_type("FP16"), ({"y": [[0.5]]},),
         (ask(x=np.array([[0.5]], np.float16)),)),
    Case("type_uint64", typed(TensorProto.UINT64), of_type("UINT64"), ({"y": [[2**64 - 1]]},),
         (ask(x=np.array([[2**64 - 1]], np.uint64)),)),
    Case("type_string", typed(STRING), of_type("STRING"), ({"y": [["ü"]]},), (ask(x=[["ü".encode()]]),)),
    Case("type_bf16", typed(TensorProto.BFLOAT16), of_type("BF16"), REFUSED, says="bfloat16"),
    Case("type_bf16_completed", typed(TensorProto.BFLOAT16), "", REFUSED, says="bfloat16"),
    Case("type_bf16_elsewhere", graph([helper.make_node("Neg", ["x"], ["y"]),
         helper.make_node("Cast", ["x"], ["z"], to=TensorProto.BFLOAT16)], [("x", FLOAT, ["n", 1])],
         [("y", FLOAT, ["n", 1]), ("z", TensorProto.BFLOAT16, ["n", 1])]), config(), ({"y": [[-1.0]]},),
         (ask(x=[[1.0]]),)),
    Case("type_sequence", graph([helper.make_node("SequenceConstruct", ["x"], ["z"]),
         helper.make_node("ConcatFromSequence", ["z"], ["y"], axis=0)], [("x", FLOAT, ["n", 1])],
         [("y", FLOAT, ["n", 1])]), config(), ({"y": [[1.0]]},), (ask(x=[[1.0]]),)),
    Case("no_inputs", graph([helper.make_node("Constant", [], ["y"], value_float=2.0)], [],
         [("y", FLOAT, [])]), "", ({"y": [2.0]},), (ask(),)),
    Case("no_config_two_out", TWO_OUT, "", ({"a": [[1.0]], "b": [[-1.0]]},), (ask(x=[[1.0]]),)),
]  # fmt: skip
