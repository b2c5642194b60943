"""Does it batch, at which sizes does it run, what does it return?"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.common.errors import OnnxFileError, SpecError
from export.pipelines.onnx_files.published import check_published
from tests.export.pipelines.onnx_files.files import (
    BOOL,
    FLOAT,
    INT64,
    RANDOM,
    Door,
    linear,
    model,
    node,
    tensors,
)


def test_open_dims_are_tried_at_several_sizes_and_bounds_are_told(served: Door):
    table = RANDOM.normal(size=(64, 8)).astype(np.float32)
    made = model(
        [node("Shape", "x", "s", start=1, end=2), node("Slice", "p zero s zero", "q"), node("Add", "x q")],
        [("x", FLOAT, ["n", "length", 8])],
        [("y", FLOAT, ["n", "length", 8])],
        [("p", table), ("zero", np.array([0]))],
    )
    report = served.publish(made)
    note = next(note for note in report.notes if "open dims" in note)
    assert "(length) run at 32, 64" in note
    assert "not at 224" in note


@pytest.mark.slow
def test_dims_can_be_fixed(served: Door):
    made = linear(inputs=("n", "length", 8), outputs=("n", "length", 4))
    served.publish(made, dims={"x": (5, -1)})
    assert tensors(served.config().input) == [("x", 11, [5, 8])]
    assert tensors(served.config().output) == [("y", 11, [-1, 4])]
    assert check_published("m", served.repository) == []
    for dims in ({"z": (5, 8)}, {"x": (5, 9)}, {"x": (5,)}):
        with pytest.raises(OnnxFileError, match="--dims"):
            served.publish(made, dims=dims)


def test_indices_stay_within_the_tables_that_they_choose_from(served: Door):
    table = RANDOM.normal(size=(20, 8)).astype(np.float32)
    made = model(
        [
            node("Cast", "ids", "i", to=INT64),
            node("Gather", "table i", "e"),
            node("ReduceMean", "e one", keepdims=0),
        ],
        [("ids", TensorProto.INT32, ["n", "length"])],
        [("y", FLOAT, ["n", 8])],
        [("table", table), ("one", np.array([1]))],
    )
    assert served.publish(made).max_batch_size == 8


def test_samples_can_be_given(door: Door, tmp_path: Path):
    """A Gather of a shape that no random number finds."""
    made = model(
        [node("Add", "x big", "i"), node("Gather", "table i")],
        [("x", INT64, ["n", 1])],
        [("y", FLOAT, ["n", 1])],
        [("table", RANDOM.normal(size=5).astype(np.float32)), ("big", np.array([-100_000]))],
    )
    with pytest.raises(SpecError, match=r"--samples FILE\.npz"):
        door.publish(made)
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.array([[100_000], [100_003]]))
    assert door.publish(made, samples=samples).items_compared == 2
    np.savez(samples, x=np.array([100_000]))
    with pytest.raises(SpecError, match="the model takes int64"):
        door.publish(made, samples=samples)
    np.savez(samples, z=np.array([[100_000]]))
    with pytest.raises(SpecError, match="has arrays"):
        door.publish(made, samples=samples)
    samples.write_bytes(b"PK no zip")
    with pytest.raises(SpecError, match="cannot be read"):
        door.publish(made, samples=samples)


def test_one_number_for_each_item_is_published_with_reshape(served: Door):
    made = linear([node("ReduceSum", "a one", keepdims=0), node("ArgMax", "a", "k", axis=1, keepdims=0)])
    made.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    del made.graph.output[:]
    made.graph.output.extend(
        [helper.make_tensor_value_info("y", FLOAT, ["n"]), helper.make_tensor_value_info("k", INT64, ["n"])]
    )
    served.publish(made)
    assert [list(output.dims) for output in served.config().output] == [[1], [1]]
    assert all(output.HasField("reshape") for output in served.config().output)


@pytest.mark.slow
def test_a_scalar_for_all_items_is_published_without_batching(served: Door):
    made = model(
        [node("Mul", "x knob")],
        [("x", FLOAT, ["n", 8]), ("knob", FLOAT, [])],
        [("y", FLOAT, ["n", 8])],
    )
    report = served.publish(made)
    assert report.max_batch_size == 0
    assert tensors(served.config().input) == [("x", 11, [-1, 8]), ("knob", 11, [1])]


def test_a_newer_ir_version_is_lowered(served: Door):
    report = served.publish(linear(ir=11))
    assert report.ir_version == 10
    assert any("IR version 11 became 10" in note for note in report.notes)
    assert onnx.load(report.path).ir_version == 10


def test_inputs_with_an_initializer_are_not_served(served: Door):
    made = linear()
    made.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [8, 4]))
    report = served.publish(made)
    assert report.inputs == ["x float32 [8]"]
    assert any("an initializer" in note for note in report.notes)


@pytest.mark.parametrize("outputs", [None, (1, 4), ("n", 5), (4,)])
def test_outputs_that_are_declared_wrong_are_mended(served: Door, outputs: tuple | None):
    report = served.publish(linear(outputs=outputs))
    assert report.max_batch_size == 8
    assert any("declared" in note for note in report.notes)


def loop_of_three() -> onnx.ModelProto:
    """Row i of its input in turn i, three turns."""
    body = helper.make_graph(
        [node("Gather", "x turn", "row"), node("Identity", "go", "still")],
        "body",
        [helper.make_tensor_value_info("turn", INT64, []), helper.make_tensor_value_info("go", BOOL, [])],
        [helper.make_tensor_value_info("still", BOOL, []), helper.make_tensor_value_info("row", FLOAT, [8])],
    )
    weights = [("turns", np.array(3)), ("yes", np.array(True))]
    return model(
        [helper.make_node("Loop", ["turns", "yes"], ["y"], body=body)],
        [("x", FLOAT, ["n", 8])],
        [("y", FLOAT, ["n", 8])],
        weights,
    )


WRITTEN_IN = {
    "two in a Reshape": (linear([node("Reshape", "a dims")], weights=[("dims", np.array([2, 4]))]), 2),
    "pairs": (
        linear(
            [node("Reshape", "a pairs", "p"), node("Softmax", "p", "s", axis=1), node("Reshape", "s rows")],
            weights=[("pairs", np.array([-1, 8])), ("rows", np.array([-1, 4]))],
        ),
        2,
    ),
    "three turns of a Loop": (loop_of_three(), 3),
}


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", WRITTEN_IN)
def test_a_number_of_items_in_the_graph_is_named_as_the_cause(
    door: Door, tmp_path: Path, kind: str, given: bool
):
    made, count = WRITTEN_IN[kind]
    np.savez(tmp_path / "samples.npz", x=RANDOM.normal(size=(2, 8)).astype(np.float32))
    with pytest.raises(OnnxFileError, match=f"runs with a batch of {count}, and not with one") as raised:
        door.publish(made, samples=tmp_path / "samples.npz" if given else None)
    assert "open batch" in str(raised.value)
    assert door.empty


def test_what_no_sample_is_found_for_is_told_once_and_without_codes(door: Door):
    made = model(
        [node("Add", "x big", "i"), node("Gather", "table i")],
        [("x", INT64, ["n", 1])],
        [("y", FLOAT, ["n", 1])],
        [("table", np.zeros(3, np.float32)), ("big", np.array(1000))],
    )
    with pytest.raises(SpecError, match=r"--samples FILE\.npz") as raised:
        door.publish(made)
    text = str(raised.value)
    assert text.count("at its size: node Gather: indices element out of data bounds") == 1
    assert "ONNXRuntimeError" not in text


def test_integers_that_were_not_tried_are_told(door: Door):
    made = model([node("Cast", "x", to=FLOAT)], [("x", INT64, ["n", 3])], [("y", FLOAT, ["n", 3])])
    assert any("integers of 0 to 255 were tried for x" in note for note in door.publish(made).notes)
    made = model(
        [node("Cast", "x", to=FLOAT)], [("x", TensorProto.UINT8, ["n", 3])], [("y", FLOAT, ["n", 3])]
    )
    assert not any("were tried" in note for note in door.publish(made, "bytes").notes)
