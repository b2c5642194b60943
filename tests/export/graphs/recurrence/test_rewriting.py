"""Loops become nodes that answer the same, or stay; the real layers of Keras are in
tests/export/pipelines/savedmodels/keras_models.py."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from export.graphs.recurrence.rewriting import DIFFERS, native_recurrence
from tests.export.graphs.recurrence.loops import FEATURES, UNITS, Loop, model

OPS = {"after": "GRU", "before": "GRU", "lstm": "LSTM", "simple": "RNN"}
TOLERANCE = 1e-5
LENGTHS, ITEMS = (1, 2, 7), (1, 5)


def kinds(made: onnx.ModelProto) -> Counter:
    return Counter(node.op_type for node in made.graph.node)


def inputs_of(made: onnx.ModelProto, items: int, steps: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(items * 100 + steps)
    found = {"x": random.normal(size=(items, steps, FEATURES)).astype(np.float32)}
    names = {value.name for value in made.graph.input}
    if "h0" in names:
        found["h0"] = random.normal(size=(items, UNITS)).astype(np.float32)
    if "mask" in names:
        mask = random.random((items, steps)) < 0.5  # holes, at the beginning and the end, too
        mask[0] = False  # nothing counts
        mask[-1] = items > 1
        found["mask"] = mask
    return found


def largest_difference(ours: onnx.ModelProto, theirs: onnx.ModelProto, lengths=LENGTHS) -> float:
    sessions = [onnxruntime.InferenceSession(one.SerializeToString()) for one in (ours, theirs)]
    worst = 0.0
    for steps in lengths:
        for items in ITEMS:
            (one,), (other,) = (session.run(["y"], inputs_of(theirs, items, steps)) for session in sessions)
            assert one.shape == other.shape
            worst = max(worst, float(np.abs(one - other).max()))
            assert np.isfinite(one).all()
    return worst


def check_native(made: onnx.ModelProto, expected: dict[str, int], lengths=LENGTHS) -> onnx.ModelProto:
    found = native_recurrence(made)
    assert not found.stays
    counted = kinds(found.model)
    assert counted["Loop"] == 0
    assert {op: counted[op] for op in expected} == expected
    onnx.checker.check_model(found.model)
    assert largest_difference(found.model, made, lengths) < TOLERANCE
    return found.model


@pytest.mark.parametrize("sequence", [True, False], ids=["sequence", "last"])
@pytest.mark.parametrize("masked", ["", "held", "zero"])
@pytest.mark.parametrize("cell", OPS)
def test_layers_of_every_kind_become_nodes(cell: str, masked: str, sequence: bool):
    check_native(model(Loop(cell, masked=masked, sequence=sequence)), {OPS[cell]: 1})


@pytest.mark.parametrize("cell", OPS)
def test_a_fixed_number_of_steps(cell: str):
    check_native(model(Loop(cell, steps=5)), {OPS[cell]: 1}, lengths=(5,))


@pytest.mark.parametrize("cell", OPS)
def test_without_a_bias_and_backwards(cell: str):
    check_native(model(Loop(cell, bias=False, backwards=True)), {OPS[cell]: 1})


@pytest.mark.parametrize("masked", ["", "held", "zero"])
@pytest.mark.parametrize("cell", OPS)
def test_initial_states_are_kept_where_nothing_counts(cell: str, masked: str):
    """What is written before the first step that counts is no state: zeros."""
    check_native(model(Loop(cell, masked=masked, initial=True)), {OPS[cell]: 1})


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Softsign", "Elu", "Identity"])
@pytest.mark.parametrize("cell", ["after", "lstm", "simple"])
def test_other_activations(cell: str, activation: str):
    made = check_native(model(Loop(cell, activation=activation)), {OPS[cell]: 1})
    node = next(node for node in made.graph.node if node.op_type == OPS[cell])
    given = {attribute.name: attribute for attribute in node.attribute}
    expected = "Affine" if activation == "Identity" else activation
    assert expected.encode() in given["activations"].strings


def test_keras_2s_hard_sigmoid():
    made = model(Loop("before", gate="HardSigmoid"))  # ONNX's own default is 0.2 x + 0.5, too
    check_native(made, {"GRU": 1})


def test_layers_one_behind_the_other():
    check_native(
        model(Loop("after"), Loop("before", features=UNITS, seed=1), Loop("lstm", features=UNITS, seed=2)),
        {"GRU": 2, "LSTM": 1},
    )


def test_as_many_features_as_units():
    """Both weights have the same shape: which is which is told by what they do."""
    made = native_recurrence(model(Loop("after"), Loop("after", features=UNITS, seed=3)))
    assert not made.stays
    assert kinds(made.model)["GRU"] == 2


def test_the_node_says_what_it_became():
    found = native_recurrence(model(Loop("after", masked="held")))
    assert found.native == {"l0_loop": f"GRU, {UNITS} units, masked"}


def body_of(made: onnx.ModelProto) -> onnx.GraphProto:
    loop = next(node for node in made.graph.node if node.op_type == "Loop")
    return next(attribute.g for attribute in loop.attribute if attribute.name == "body")


def weakened(made: onnx.ModelProto) -> None:
    """A cell that nobody knows: its new state is doubled."""
    body = body_of(made)
    last = body.output[2].name
    body.node.append(helper.make_node("Add", [last, last], ["doubled"]))
    body.output[2].name = "doubled"


def of_the_turn(made: onnx.ModelProto) -> None:
    body = body_of(made)
    last = body.output[2].name
    body.node.append(helper.make_node("Cast", ["l0_time"], ["now"], to=onnx.TensorProto.FLOAT))
    body.node.append(helper.make_node("Add", [last, "now"], ["later"]))
    body.output[2].name = "later"


def until_it_is_large(made: onnx.ModelProto) -> None:
    body = body_of(made)
    body.node.append(helper.make_node("ReduceMax", [body.output[2].name], ["most"], keepdims=0))
    body.node.append(helper.make_node("Less", ["most", "limit"], ["small"]))
    body.initializer.append(onnx.numpy_helper.from_array(np.array(0.3, np.float32), "limit"))
    body.output[0].name = "small"


def begun_late(made: onnx.ModelProto) -> None:
    loop = next(node for node in made.graph.node if node.op_type == "Loop")
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.int32), "late"))
    loop.input[2] = "late"


def too_few_turns(made: onnx.ModelProto) -> None:
    loop = next(node for node in made.graph.node if node.op_type == "Loop")
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(3, np.int64), "three"))
    loop.input[0] = "three"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (weakened, "no GRU, LSTM or SimpleRNN"),
        (of_the_turn, "depends on the number of the turn"),
        (until_it_is_large, "depends on what it computes"),
        (begun_late, "does not begin with the first step"),
        (too_few_turns, "it takes 3 turns"),
    ],
)
def test_what_is_no_layer_stays(change, why: str):
    made = model(Loop("after"))
    change(made)
    before = made.SerializeToString()
    found = native_recurrence(made)
    assert why in found.stays["l0_loop"]
    assert not found.native
    assert found.model.SerializeToString() == before


def test_weights_that_are_computed_from_the_input_stay():
    found = native_recurrence(model(Loop("after"), weights="computed"))
    assert "which is no constant" in found.stays["l0_loop"]


@pytest.mark.parametrize("cell", ["after", "before", "simple"])
def test_weights_that_tell_no_activation_stay(cell: str):
    """Near zero tanh is all but its argument, and would be taken for it."""
    found = native_recurrence(model(Loop(cell, activation="Identity", bias=False, scale=1e-5)))
    assert "too small to tell which activations" in found.stays["l0_loop"]


def test_one_loop_stays_and_the_next_becomes_a_node():
    made = model(Loop("after"), Loop("lstm", features=UNITS, seed=1))
    weakened(made)
    found = native_recurrence(made)
    assert list(found.stays) == ["l0_loop"], found.stays
    assert kinds(found.model) >= Counter(Loop=1, LSTM=1)
    assert largest_difference(found.model, made) < TOLERANCE


def test_a_node_that_answers_otherwise_is_not_taken():
    found = native_recurrence(model(Loop("after")), lambda changed: False)
    assert found.stays == {"l0_loop": DIFFERS}
    assert kinds(found.model)["Loop"] == 1


def test_the_whole_graph_is_what_is_compared():
    made, asked = model(Loop("after"), Loop("before", features=UNITS)), []
    native_recurrence(made, lambda changed: asked.append(kinds(changed)["Loop"]) or True)
    assert asked == [1, 0]
