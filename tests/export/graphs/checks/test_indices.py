"""Which integers a graph takes for indices."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graphs.checks.indices import index_limits, unseen_integers

INT32, INT64, FLOAT = TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT


def node(kind: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def made(*nodes: onnx.NodeProto, kind: int = INT64, **tables: int) -> onnx.ModelProto:
    """Nodes from `ids` to `y`, and tables of so many rows."""
    weights = [(name, np.zeros((rows, 2), np.float32)) for name, rows in tables.items()]
    rows = helper.make_graph(
        list(nodes),
        "rows",
        [helper.make_tensor_value_info("ids", kind, ["n", 3])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    return helper.make_model(rows)


def test_the_smallest_table_counts():
    both = made(node("Gather", "a ids", "p"), node("Gather", "b ids", "q"), node("Add", "p q", "y"), a=9, b=5)
    assert index_limits(both) == {"ids": 4}
    assert unseen_integers(both) == {"ids": (-1, 4)}


def test_an_index_is_followed_through_what_leaves_it_as_it_is():
    cast = made(node("Cast", "ids", "i", to=INT64), node("Gather", "a i", "y"), kind=INT32, a=7)
    assert index_limits(cast) == {"ids": 6}


def test_a_table_is_found_in_a_constant_and_behind_a_cast():
    table = numpy_helper.from_array(np.zeros((6, 2), np.float16), "t")
    held = made(
        node("Constant", "", "t", value=table), node("Cast", "t", "a", to=FLOAT), node("Gather", "a ids", "y")
    )
    held.graph.node[0].ClearField("input")
    assert index_limits(held) == {"ids": 5}


def test_what_is_no_index_has_no_limit():
    assert unseen_integers(made(node("Cast", "ids", "y", to=FLOAT))) == {"ids": (-1,)}
    assert unseen_integers(made(node("Identity", "ids", "y"), kind=FLOAT)) == {}
    other_axis = made(node("Gather", "a ids", "y", axis=1), a=9)
    assert index_limits(other_axis) == {}
