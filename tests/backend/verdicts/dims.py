"""Dims, batching, completion, scalars."""

import numpy as np
import onnx
from onnx import helper

from tests.graphs import FLOAT, INT64, graph

from .case import FAILS, REFUSED, Case, Differs, ask, config, parameter, tensor, unary

# What docs/reference/backend.md says of the differences.
SCALARS = Differs((FAILS,), "an input that is a scalar in the graph", "TV217")
NOT_THE_BATCH = Differs((FAILS,), "An output whose first dimension is not the batch", "TV218")

FIXED, OPEN = ["n", 3], ["n", "w"]
THREE = [[1.0, 2.0, 3.0]]
MINUS = [[-1.0, -2.0, -3.0]]
X3 = (ask(x=THREE),)
Y3 = ({"y": MINUS},)

SCALAR_IN = graph(  # y = x * s
    [helper.make_node("Mul", ["x", "s"], ["y"])],
    [("x", FLOAT, ["n", 1]), ("s", FLOAT, [])],
    [("y", FLOAT, ["n", 1])],
)
SCALAR_OUT = graph(
    [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [("x", FLOAT, ["n", 1])], [("y", FLOAT, [])]
)
ONLY_SCALARS = graph([helper.make_node("Neg", ["s"], ["y"])], [("s", FLOAT, [])], [("y", FLOAT, [])])


def without_shape(model):
    """The graph does not say, and inference cannot, what shape its output has."""
    model = onnx.load_from_string(model)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model.SerializeToString()


NO_SHAPE = without_shape(
    graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", FLOAT, ["n", 3]), ("shape", INT64, ["k"])],
        [("y", FLOAT, ["m"])],
    )
)

ZEROS = np.zeros((1, 3, 4), np.float32)
LEVEL_2 = "optimization { graph { level: 2 } }"
VIEW = graph(  # y is x of the shape [n, 3 * 4], whose second dim only optimising the graph can tell
    [
        helper.make_node("Shape", ["x"], ["s"]),
        *(helper.make_node("Gather", ["s", f"i{i}"], [f"d{i}"], axis=0) for i in range(3)),
        helper.make_node("Mul", ["d1", "d2"], ["wide"]),
        helper.make_node("Unsqueeze", ["d0", "axes"], ["a"]),
        helper.make_node("Unsqueeze", ["wide", "axes"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ],
    [("x", FLOAT, ["n", 3, 4])],
    [("y", FLOAT, ["n", "k"])],
    [*((f"i{i}", np.array(i)) for i in range(3)), ("axes", np.array([0]))],
)

CASES = [
    Case("in_open_fixed", unary(FIXED), config("-1", "3"), REFUSED, says="x"),
    Case("in_fixed_open", unary(OPEN, OPEN), config("3", "-1"), Y3, X3),
    Case("out_open_fixed", unary(FIXED), config("3", "-1"), REFUSED, says="y"),
    Case("out_fixed_open", unary(OPEN), config("-1", "3"), REFUSED, says="y"),
    Case("both_equal", unary(FIXED), config("3", "3"), Y3, X3),
    Case("both_open", unary(OPEN), config("-1", "-1"), Y3, X3),
    Case("in_open_fixed_0", unary([1, 3]), config("1, -1", "1, 3", 0), REFUSED, says="x"),
    Case("in_fixed_open_0", unary(OPEN), config("1, 3", "-1, -1", 0), Y3, X3),
    Case("out_open_fixed_0", unary([1, 3]), config("1, 3", "1, -1", 0), REFUSED, says="y"),
    Case("out_fixed_open_0", unary(OPEN), config("-1, -1", "1, 3", 0), REFUSED, says="y"),
    Case("out_batch_fixed_0", unary(FIXED), config("-1, 3", "1, 3", 0), REFUSED, says="y"),
    Case("in_batch_fixed_0", unary(FIXED), config("1, 3", "-1, 3", 0), Y3, X3),
    Case("in_rank", unary(FIXED), config("3, 1", "3"), REFUSED, says="x"),
    Case("out_rank", unary(FIXED), config("3", "1, 3"), REFUSED, says="y"),
    Case("in_rank_0", unary(FIXED), config("3", "-1, 3", 0), REFUSED, says="x"),
    Case("in_size", unary(FIXED), config("4", "3"), REFUSED, says="x"),
    Case("out_size", unary(FIXED), config("3", "4"), REFUSED, says="y"),
    Case("in_counts_batch", unary(FIXED), config("-1, 3", "3"), REFUSED, says="x"),
    Case("batch_fixed_at_1", unary([1, 3]), config("3", "3"), REFUSED, says="x"),
    Case("batch_of_output_fixed", graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)], [("x", FLOAT, ["n", 3])],
        [("y", FLOAT, [1, 3])], [("axes", np.array([0]))]), config("3", "3"), REFUSED, says="y"),
    Case("in_reshaped", unary(["n", 3, 1]), "max_batch_size: 4\n"
         + tensor("input", "x", "3", more="reshape { shape: [ 3, 1 ] }")
         + tensor("output", "y", "3", more="reshape { shape: [ 3, 1 ] }"), Y3, X3),
    Case("in_reshaped_wrong", unary(["n", 3, 1]), "max_batch_size: 4\n"
         + tensor("input", "x", "3", more="reshape { shape: [ 1, 3 ] }")
         + tensor("output", "y", "3, 1"), REFUSED, says="x"),
    Case("in_reshaped_away", unary(["n"]), "max_batch_size: 4\n"
         + tensor("input", "x", "1", more="reshape { shape: [ ] }")
         + tensor("output", "y", "1", more="reshape { shape: [ ] }"), ({"y": [[-2.0]]},), (ask(x=[[2.0]]),)),
    Case("in_one_per_item_bare", unary(["n"]), config("1", "1"), REFUSED, says="x"),
    # Completion.
    Case("completed", unary(FIXED), "", Y3, X3),
    Case("completed_of_4", unary(FIXED), "", ({"y": [MINUS[0]] * 4}, FAILS),
         (ask(x=THREE * 4), ask(x=THREE * 5))),
    Case("completed_8_fixed", unary([1, 3]), "max_batch_size: 8", REFUSED, says="max_batch_size"),
    Case("completed_fixed", unary([1, 3]), "", Y3, X3),
    Case("completed_input_only", unary(FIXED), tensor("output", "y", "3"), Y3, X3),
    Case("completed_output_only", unary(FIXED), tensor("input", "x", "3"), Y3, X3),
    Case("completed_counts_batch", unary(FIXED), tensor("input", "x", "-1, 3"), REFUSED, says="x"),
    Case("completed_out_counts_batch", unary(FIXED), tensor("output", "y", "-1, 3"), REFUSED, says="y"),
    Case("completed_wrong_name", unary(FIXED), tensor("input", "z", "3"), REFUSED, says="z"),
    Case("completed_per_item", unary(["n"]), "", ({"y": [[-2.0]]},), (ask(x=[[2.0]]),)),
    Case("completed_scalar", ONLY_SCALARS, "", ({"y": [-2.0]},), (ask(s=[2.0]),)),
    Case("completed_0_dim", unary([0]), "", REFUSED, differs=Differs((), "A graph dimension of 0", "TV203")),
    Case("complete_0_batch", unary(FIXED), config("-1, 3", "-1, 3", 0), Y3, X3),
    # Scalars.
    Case("scalar_in", SCALAR_IN, "max_batch_size: 4\n" + tensor("input", "x", 1) + tensor("input", "s", 1)
         + tensor("output", "y", 1), ({"y": [[6.0]]},), (ask(x=[[2.0]], s=[[3.0]]),)),
    Case("scalar_in_two_same", SCALAR_IN, "max_batch_size: 4\n" + tensor("input", "x", 1)
         + tensor("input", "s", 1) + tensor("output", "y", 1), ({"y": [[6.0], [3.0]]},),
         (ask(x=[[2.0], [1.0]], s=[[3.0], [3.0]]),)),
    Case("scalar_in_two", SCALAR_IN, "max_batch_size: 4\n" + tensor("input", "x", 1) + tensor("input", "s", 1)
         + tensor("output", "y", 1), ({"y": [[6.0], [3.0]]},), (ask(x=[[2.0], [1.0]], s=[[3.0], [5.0]]),),
         differs=SCALARS),
    Case("scalar_in_dims", SCALAR_IN, "max_batch_size: 4\n" + tensor("input", "x", 1) + tensor("input", "s",
         2)
         + tensor("output", "y", 1), REFUSED, says="s"),
    Case("scalar_in_reshaped", SCALAR_IN, "max_batch_size: 4\n" + tensor("input", "x", 1)
         + tensor("input", "s", 1, more="reshape { shape: [ ] }") + tensor("output", "y", 1),
         ({"y": [[6.0]]},), (ask(x=[[2.0]], s=[[3.0]]),)),
    Case("scalar_in_0", SCALAR_IN, "max_batch_size: 0\n" + tensor("input", "x", "-1, 1")
         + tensor("input", "s", 1) + tensor("output", "y", "-1, 1"), ({"y": [[6.0], [9.0]]},),
         (ask(x=[[2.0], [3.0]], s=[3.0]),)),
    Case("scalar_in_0_rank_2", SCALAR_IN, "max_batch_size: 0\n" + tensor("input", "x", "-1, 1")
         + tensor("input", "s", "1, 1") + tensor("output", "y", "-1, 1"), ({"y": [[6.0]]},),
         (ask(x=[[2.0]], s=[[3.0]]),)),
    Case("scalar_out", SCALAR_OUT, config("1", "1"), ({"y": [5.0]},), (ask(x=[[5.0]]),)),
    Case("scalar_out_two", SCALAR_OUT, config("1", "1"), (FAILS,), (ask(x=[[5.0], [6.0]]),)),
    Case("scalar_out_0", SCALAR_OUT, config("-1, 1", "1", 0), ({"y": [11.0]},), (ask(x=[[5.0], [6.0]]),)),
    Case("scalar_out_0_rank_3", SCALAR_OUT, config("-1, 1", "1, 1, 1", 0), ({"y": [[[11.0]]]},),
         (ask(x=[[5.0], [6.0]]),)),
    Case("scalar_out_dims", SCALAR_OUT, config("1", "2"), REFUSED, says="y"),
    Case("no_shape", NO_SHAPE, "max_batch_size: 0\n" + tensor("input", "x", "-1, 3")
         + tensor("input", "shape", "-1", "INT64") + tensor("output", "y", "-1, 3"), REFUSED, says="y"),
    Case("no_shape_1", NO_SHAPE, "max_batch_size: 0\n" + tensor("input", "x", "-1, 3")
         + tensor("input", "shape", "-1", "INT64") + tensor("output", "y", "1"),
         ({"y": [1.0, 2.0, 3.0]},), (ask(x=THREE, shape=np.array([3])),)),
    Case("no_shape_completed", NO_SHAPE, "", ({"y": [1.0, 2.0, 3.0]},), (ask(x=THREE, shape=np.array([3])),)),
    # Outputs that do not keep the batch.
    Case("batch_doubled", graph([helper.make_node("Concat", ["x", "x"], ["y"], axis=0)],
         [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["m", 1])]), config(), ({"y": [[7.0]]},), (ask(x=[[7.0]]),),
         differs=NOT_THE_BATCH),
    Case("batch_dropped", graph([helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
         [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["m", 1])], [("axes", np.array([0]))]), config(), REFUSED,
         says="y"),
    Case("batch_compressed", graph([helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Reshape", ["a",
         "s"], ["b"]),
         helper.make_node("Greater", ["b", "five"], ["c"]), helper.make_node("Compress", ["x", "c"], ["y"],
         axis=0)],
         [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["m", 1])], [("s", np.array([-1])), ("five",
         np.float32(5))]),
         config(), (FAILS,), (ask(x=[[7.0], [1.0]]),)),
    Case("batch_to_rank_0", graph([helper.make_node("Reshape", ["x", "shape"], ["y"])],
         [("x", FLOAT, ["n", 3])], [("y", FLOAT, ["m", 1])], [("shape", np.array([-1, 1]))]), config("3",
         "1"),
         ({"y": [[1.0]]},), X3, differs=NOT_THE_BATCH),
    Case("zero_items", unary(FIXED), config("3", "3"), (FAILS,), (ask(x=np.zeros((0, 3), np.float32)),)),
    Case("zero_wide", unary(OPEN), config("-1", "-1"), ({"y": [[]]},), (ask(x=np.zeros((1, 0),
         np.float32)),)),
    Case("zero_items_0", unary(FIXED), config("-1, 3", "-1, 3", 0), ({"y": []},),
         (ask(x=np.zeros((0, 3), np.float32)),)),
    Case("wrong_width", unary(FIXED), config("3", "3"), (FAILS,), (ask(x=[[1.0, 2.0]]),)),
    Case("max_shape", unary(OPEN), config("-1", "-1", more=parameter("max_shape", "x=2")), Y3, X3,
         differs=Differs((FAILS,), 'key: "max_shape"', "TV803")),
    Case("max_shape_kept", unary(OPEN), config("-1", "-1", more=parameter("max_shape", "x=3")), Y3, X3),
    Case("max_shape_malformed", unary(OPEN), config("-1", "-1", more=parameter("max_shape", "x:3")), Y3, X3,
         says="max_shape", differs=Differs(REFUSED, 'key: "max_shape"', "TV705")),
    Case("level_tells_dims", VIEW, config("3, 4", "12"), ({"y": [[0.0] * 12]},), (ask(x=ZEROS),)),
    Case("level_tells_dims_open", VIEW, config("3, 4", "-1"), REFUSED, says="y"),
    Case("level_2_tells_none", VIEW, config("3, 4", "12", more=LEVEL_2), REFUSED, says="y"),
    Case("level_2_tells_none_open", VIEW, config("3, 4", "-1", more=LEVEL_2), ({"y": [[0.0] * 12]},),
         (ask(x=ZEROS),)),
    Case("level_basic_tells_dims", VIEW, config("3, 4", "12", more="optimization { graph { level: -1 } }"),
         ({"y": [[0.0] * 12]},), (ask(x=ZEROS),)),
    Case("level_tells_dims_completed", VIEW, "", ({"y": [[0.0] * 12]},), (ask(x=ZEROS),)),
]  # fmt: skip
