"""Items in batches against the same items alone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.common.errors import VerificationError
from tests.export.pipelines.onnx_files.files import BOOL, FLOAT, INT64, Door, linear, model, node, tensors

MIXING = {
    "divided by the largest of the batch": [
        node("ReduceMax", "a", "m", keepdims=0),
        node("Div", "a m"),
    ],
    "softmax over the batch": [node("Softmax", "a", axis=0)],
    "the mean of the batch taken away": [node("ReduceMean", "a zero", "m"), node("Sub", "a m")],
    "a cumulative sum": [node("CumSum", "a axis")],
    "items in another order": [node("Gather", "a order")],
    "the first item for all": [
        node("Gather", "a zero", "f"),
        node("Expand", "f shape", "g"),
        node("Add", "a g"),
    ],
}


@pytest.mark.parametrize("kind", MIXING)
def test_answers_that_depend_on_the_batch_are_refused(door: Door, kind: str):
    weights = [
        ("zero", np.array([0])),
        ("axis", np.array(0)),
        ("order", np.array([0])),
        ("shape", np.array([1, 4])),
    ]
    made = linear(MIXING[kind], weights=weights)
    if kind == "items in another order":
        made.graph.node[-1].CopyFrom(node("ReverseSequence", "a lens", batch_axis=1, time_axis=0))
        shape = [node("Shape", "a", "s", end=1), node("Expand", "s four", "lens")]
        del made.graph.node[-1]
        made.graph.node.extend([*shape, node("ReverseSequence", "a lens", batch_axis=1, time_axis=0)])
        made.graph.initializer.append(numpy_helper.from_array(np.array([4]), "four"))
    with pytest.raises(VerificationError, match="output y depends on the other items of the batch") as raised:
        door.publish(made)
    assert "--max-batch-size 0" in str(raised.value)
    assert door.empty
    assert door.publish(made, max_batch_size=0).max_batch_size == 0
    assert tensors(door.config().input) == [("x", 11, [-1, 8])]
    assert not door.config().HasField("dynamic_batching")


def of_the_number_of_items(*condition: onnx.NodeProto) -> onnx.ModelProto:
    """x @ W, and 1 more where the condition `c` of the number of items `n` holds."""
    numbers = [(f"n{number}", np.array([number])) for number in (2, 8, 13, 17, 31, 47, 100)]
    after = [node("Shape", "a", "n", end=1), *condition, node("Cast", "c", "f", to=FLOAT), node("Add", "a f")]
    return linear(after, weights=numbers)


ONE_SIZE = {
    "13": ([node("Equal", "n n13", "c")], 64),
    "47": ([node("Equal", "n n47", "c")], 64),
    "18 to 30": (
        [node("Greater", "n n17", "g"), node("Less", "n n31", "l"), node("And", "g l", "c")],
        64,
    ),
    "odd ones above 8": (
        [
            *(node("Greater", "n n8", "g"), node("Mod", "n n2", "m"), node("Cast", "m", "odd", to=BOOL)),
            node("And", "g odd", "c"),
        ],
        64,
    ),
    "100 and more": ([node("GreaterOrEqual", "n n100", "c")], 400),
}


@pytest.mark.parametrize("sizes", ONE_SIZE)
def test_a_size_at_which_it_is_wrong_is_found_wherever_it_lies(door: Door, sizes: str):
    condition, most = ONE_SIZE[sizes]
    with pytest.raises(VerificationError, match=r"output y depends on the other items .* differs by 1 "):
        door.publish(of_the_number_of_items(*condition), max_batch_size=most)
    assert door.empty


def if_any_is(number: int, kind: int = INT64) -> onnx.ModelProto:
    """Rows of a table of 1000, all of a batch other ones where any index in it is `number`."""
    return model(
        [
            *(
                node("Gather", "table ids", "e"),
                node("Equal", "ids number", "q"),
                node("Cast", "q", "f", to=FLOAT),
            ),
            *(node("ReduceMax", "f", "m", keepdims=0), node("Add", "e m")),
        ],
        [("ids", kind, ["n", 6])],
        [("y", FLOAT, ["n", 6, 3])],
        [
            ("table", np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)),
            ("number", np.array(number, helper.tensor_dtype_to_np_dtype(kind))),
        ],
    )


@pytest.mark.parametrize("kind", [INT64, TensorProto.INT32])
@pytest.mark.parametrize("number", [0, 1, -1, 999])
def test_an_index_that_pads_or_ends_a_table_harms_nobody_else(door: Door, number: int, kind: int):
    with pytest.raises(VerificationError, match=f"whose integers are .*{number}|neighbour of zeros"):
        door.publish(if_any_is(number, kind))
    assert door.empty


@pytest.mark.parametrize("kind", [INT64, FLOAT, BOOL, TensorProto.UINT8])
def test_an_item_that_is_all_padding_harms_nobody_else(door: Door, kind: int):
    """Their answers become zero with it, whatever its other inputs are."""
    made = model(
        [
            *(node("Cast", "attention_mask", "f", to=FLOAT), node("ReduceSum", "f last", "s", keepdims=0)),
            *(node("ReduceMin", "s", "least", keepdims=0), node("Min", "least one", "k")),
            *(node("ReduceMax", "x", "most", keepdims=0), node("Greater", "most zero", "some")),
            *(node("Where", "some k one", "factor"), node("Mul", "x factor")),
        ],
        [("x", FLOAT, ["n", 4]), ("attention_mask", kind, ["n", 4])],
        [("y", FLOAT, ["n", 4])],
        [("last", np.array([1])), ("one", np.float32(1)), ("zero", np.float32(0))],
    )
    with pytest.raises(VerificationError, match="output y depends on the other items"):
        door.publish(made)


@pytest.mark.parametrize("batches", [None, 0])
def test_noise_is_told_as_that_and_not_sent_on_to_where_it_stays(door: Door, batches: int | None):
    made = linear([node("RandomNormalLike", "a", "r"), node("Add", "a r")])
    with pytest.raises(VerificationError, match="each time the same item is asked") as raised:
        door.publish(made, max_batch_size=batches)
    assert "--max-batch-size" not in str(raised.value)
    assert "without what is random" in str(raised.value)
