"""What the C library tells of a graph is what ONNX Runtime's Python package tells."""

import os

import graph_reader
import onnxruntime as ort
import ort_config
import ort_sessions
import ort_settings
import pytest
from onnx import TensorProto, helper

from tests.backend.verdicts import CASES
from tests.graphs import publish


def told(graph):
    """Of its tensors, in order; why there is none, if so."""
    try:
        return ort_config.graph_of_session(graph())
    except Exception as error:
        return str(error)


@pytest.mark.parametrize("level", [99, 0])
def test_both_tell_the_same(tmp_path, level):
    """Of the graphs of all verdicts: scalars, open dims, initializers, broken ones."""
    config = {"optimization": {"graph": {"level": {99: 0, 0: 2}[level]}}}
    settings = ort_settings.session_settings(config)
    assert settings.graph_level == level
    for case in CASES:
        publish(tmp_path, case.name, case.model)
        path = tmp_path / case.name / "1" / "model.onnx"
        ours = told(lambda path=path: graph_reader.Graph(os.fsencode(path), settings))
        options = ort_sessions.session_options(config)
        theirs = told(
            lambda path=path, options=options: ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        )
        assert ours == theirs, case.name


ELEMENTS = [(name, kind) for name, kind in TensorProto.DataType.items() if name != "UNDEFINED"]


@pytest.mark.parametrize(("name", "kind"), ELEMENTS)
def test_every_data_type_has_its_name(tmp_path, name, kind):
    values = [helper.make_tensor_value_info(tensor, kind, ["n", 3]) for tensor in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "s"], ["y"])], "graph", values[:1], values[1:]
    )
    graph.initializer.append(helper.make_tensor("s", TensorProto.INT64, [2], [0, 3]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    ours = told(lambda: graph_reader.Graph(os.fsencode(path), ort_settings.session_settings({})))
    theirs = told(lambda: ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]))
    assert ours == theirs


def test_failures_are_told_in_the_packages_words(tmp_path):
    settings = ort_settings.session_settings({})
    for content in (b"", b"no graph", os.urandom(99)):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        ours = told(lambda path=path: graph_reader.Graph(os.fsencode(path), settings))
        assert ours.startswith("[ONNXRuntimeError] : ")
        assert ours == told(lambda path=path: ort.InferenceSession(str(path)))


@pytest.mark.parametrize(("kind", "word"), [("sequence", "sequence"), ("optional", "optional")])
def test_what_is_no_tensor_is_refused(tmp_path, kind, word):
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    made = getattr(helper, f"make_{kind}_type_proto")(tensor)
    node = helper.make_node({"sequence": "SequenceConstruct", "optional": "Optional"}[kind], ["x"], ["y"])
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_value_info("y", made)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ort_config.SettingsError, match=f"'y' of the graph is a {word}; inputs and outputs"):
        ort_config.graph_of_session(graph_reader.Graph(os.fsencode(path), ort_settings.session_settings({})))
