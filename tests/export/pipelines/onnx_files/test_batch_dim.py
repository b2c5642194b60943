"""A batch that is fixed at one, opened where that is right."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from export.common.errors import ExportError, OnnxFileError
from export.pipelines.onnx_files.batch_dim import open_batch
from tests.export.pipelines.onnx_files.files import FLOAT, RANDOM, Door, W, linear, model, node, tensors


def test_a_batch_that_is_fixed_is_told(served: Door):
    report = served.publish(linear(inputs=(1, 8), outputs=(1, 4)))
    assert report.max_batch_size == 0
    assert "fixed at 1" in report.notes[0]
    assert "--batch" in report.notes[0]
    assert tensors(served.config().input) == [("x", 11, [1, 8])]
    with pytest.raises(OnnxFileError, match="--batch opens it"):
        served.publish(linear(inputs=(1, 8), outputs=(1, 4)), "n", max_batch_size=4)


def test_a_fixed_batch_is_opened(served: Door):
    flat = linear([node("Reshape", "a shape")], (1, 3, 8), (1, 12), weights=[("shape", np.array([1, -1]))])
    report = served.publish(flat, batch=True, max_batch_size=4)
    assert report.max_batch_size == 4
    assert "was opened" in report.notes[0]
    session = onnxruntime.InferenceSession(report.path)
    x = RANDOM.normal(size=(3, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], (x @ W).reshape(3, 12), rtol=1e-5)


def gru(initial: np.ndarray) -> onnx.ModelProto:
    shapes = {"gw": (1, 15, 8), "gr": (1, 15, 5)}
    weights = [(name, RANDOM.normal(size=shape).astype(np.float32)) for name, shape in shapes.items()]
    return model(
        [
            helper.make_node("GRU", ["x", "gw", "gr", "", "", "h"], ["", "y"], hidden_size=5),
            node("Squeeze", "y zero", "z"),
        ],
        [("x", FLOAT, [7, 1, 8])],
        [("z", FLOAT, [1, 5])],
        [*weights, ("h", initial), ("zero", np.array([0]))],
    )


def token() -> onnx.ModelProto:
    """A constant row before the rows of each item, as vision transformers have it."""
    return model(
        [helper.make_node("Concat", ["token", "x"], ["y"], axis=1)],
        [("x", FLOAT, [1, 3, 8])],
        [("y", FLOAT, [1, 4, 8])],
        [("token", RANDOM.normal(size=(1, 1, 8)).astype(np.float32))],
    )


def batch_first(made: onnx.ModelProto) -> onnx.ModelProto:
    """A GRU reads time first: its input is turned inside the graph."""
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("b", FLOAT, [1, 7, 8]))
    made.graph.node.insert(0, helper.make_node("Transpose", ["b"], ["x"], perm=[1, 0, 2]))
    return made


OPENED = {
    "initial states of zeros": lambda: batch_first(gru(np.zeros((1, 1, 5), np.float32))),
    "initial states": lambda: batch_first(gru(RANDOM.normal(size=(1, 1, 5)).astype(np.float32))),
    "a class token": token,
    "two reshapes": lambda: linear(
        [node("Reshape", "a s1", "r"), node("Relu", "r", "q"), node("Reshape", "q s2")],
        (1, 3, 8),
        (1, 2, 6),
        weights=[("s1", np.array([1, 12])), ("s2", np.array([1, 2, 6]))],
    ),
    "one that needs nothing": lambda: linear(inputs=(1, 8), outputs=(1, 4)),
}


@pytest.mark.parametrize("kind", OPENED)
def test_what_can_be_opened_answers_as_the_file_does(served: Door, kind: str):
    made = OPENED[kind]()
    before = made.SerializeToString()
    report = served.publish(made, batch=True)
    assert (served.folder / "m.onnx").read_bytes() == before, "the file that was given stays as it is"
    name = made.graph.input[0].name
    dims = [dim.dim_value for dim in made.graph.input[0].type.tensor_type.shape.dim]
    x = RANDOM.normal(size=(5, *dims[1:])).astype(np.float32)
    original = onnxruntime.InferenceSession(made.SerializeToString())
    alone = np.concatenate([original.run(None, {name: row[None]})[0] for row in x])
    opened = onnxruntime.InferenceSession(report.path).run(None, {name: x})[0]
    np.testing.assert_allclose(opened, alone, rtol=1e-4, atol=1e-6)


NOT_OPENED = {
    "merged with the heads": [node("Reshape", "a heads", "r"), node("Reshape", "r back")],
    "squeezed away": [node("Squeeze", "a zero")],
    "a global maximum": [node("ReduceMax", "a", "m", keepdims=0), node("Div", "a m")],
}


@pytest.mark.parametrize("kind", NOT_OPENED)
def test_what_cannot_be_opened_is_refused(door: Door, kind: str):
    weights = [("heads", np.array([6, 2])), ("back", np.array([3, 4])), ("zero", np.array([0]))]
    outputs = {"squeezed away": (3, 4), "merged with the heads": (3, 4)}.get(kind, (1, 3, 4))
    made = linear(NOT_OPENED[kind], (1, 3, 8), outputs, weights=weights)
    with pytest.raises(ExportError):
        door.publish(made, batch=True)
    assert door.empty


def test_opening_leaves_the_given_model_alone():
    made = linear([node("Reshape", "a shape")], (1, 3, 8), (1, 12), weights=[("shape", np.array([1, -1]))])
    before = made.SerializeToString()
    opened, changes = open_batch(made)
    assert made.SerializeToString() == before
    assert opened.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert changes == ["Reshape y"]
