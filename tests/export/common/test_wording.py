"""What errors of others say, without what only their makers need."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.common.wording import said_by
from tests.graphs import graph


def refused(node: str, name: str = "") -> Exception:
    """What ONNX Runtime raises as it reshapes three numbers to two."""
    made = graph(
        [helper.make_node(node, ["x", "dims"], ["y"], name=name)],
        [("x", TensorProto.FLOAT, ["n"])],
        [("y", TensorProto.FLOAT, [2])],
        [("dims", np.array([2]))],
    )
    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception) as raised:  # noqa: PT011  of no public root
        session.run(None, {"x": np.zeros(3, np.float32)})
    return raised.value


@pytest.mark.parametrize(("name", "shown"), [("", "node Reshape: "), ("head/1", "node Reshape head/1: ")])
def test_a_node_is_named_and_why_it_fails(name: str, shown: str):
    said = said_by(refused("Reshape", name))
    assert said.startswith(shown)
    assert "Input shape:{3}, requested shape:{2}" in said
    for noise in ("ONNXRuntimeError", "onnxruntime_src", "Status Message", "::", "TensorShape&"):
        assert noise not in said


def test_what_says_nothing_is_named():
    assert said_by(ValueError()) == "ValueError"
    assert said_by(ValueError("two\n  lines")) == "two lines"
