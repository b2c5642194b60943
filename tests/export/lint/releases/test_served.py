"""Graphs go through the ONNX Runtime of another version, and answers that differ are found."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.common.errors import ExportError
from export.common.release import RELEASES, Release
from export.lint.releases import served
from export.lint.releases.probe import with_value
from export.lint.releases.served import Agreement, compared, sample
from export.lint.releases.wheels import Wheel


def graph(path: Path, operator: str = "Identity") -> Path:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "M"]) for name in "xy"]
    made = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def installed(monkeypatch):
    """The ONNX Runtime that is installed here in the place of every release's; the wheels need a network."""
    import onnxruntime

    monkeypatch.setattr(Wheel, "_installed", lambda self, _: Path(onnxruntime.__file__).parents[1])
    return onnxruntime.__version__


def release(name: str, onnxruntime: str) -> Release:
    oldest = next(iter(RELEASES.values()))
    facts = {**oldest.facts, "onnxruntime": type(oldest.facts["triton"])(onnxruntime, True, "here")}
    return Release(name, facts)


def test_graphs_run_and_agree(tmp_path, installed):
    graphs = {"a": graph(tmp_path / "a.onnx"), "b": graph(tmp_path / "b.onnx", "Softmax")}
    told = []
    found = compared(graphs, [release("1", installed), release("2", installed)], told.append)
    assert [(entry.release, entry.model, entry.alike) for entry in found] == [
        ("2", "a", True),
        ("2", "b", True),
    ]
    assert len(told) == 2


def test_another_version_than_asked_is_refused(tmp_path, installed):
    with pytest.raises(ExportError, match=f"asked ONNX Runtime 0.0.1, and {installed} answered"):
        Wheel("0.0.1", tmp_path).limits()


def test_a_graph_that_does_not_load_is_told_in_its_words(tmp_path, installed):
    with pytest.raises(ExportError, match="NoSuchOperator"):
        compared({"a": graph(tmp_path / "a.onnx", "NoSuchOperator")}, [release("1", installed)], print)


def test_the_limits_and_operators_of_a_wheel_are_asked_of_it(tmp_path, installed):
    wheel = Wheel(installed, tmp_path)
    limits = wheel.limits()
    table = json.loads(wheel.operators())
    assert table["onnxruntime"] == installed
    assert table["domains"][""] == limits["opset"]
    assert "Conv" in table["operators"][""]
    refused = table["operators"]["com.microsoft"]["MatMulNBits"]["refuses"]["bits"]
    for bits in (3, 4):
        graph = tmp_path / "graph.onnx"
        onnx.save(with_value("MatMulNBits", bits=bits), graph)
        if bits in refused:
            with pytest.raises(ExportError, match="MatMulNBits"):
                compared({"a": graph}, [release("1", installed)], print)
        else:
            compared({"a": graph}, [release("1", installed)], print)
    assert (3 in refused, 4 in refused) == (True, False)


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ({"m/y": np.ones((2, 3)) + 1e-6}, True),
        ({"m/y": np.ones((2, 3)) * 1.01}, False),
        ({"m/y": np.ones((2, 4))}, False),
        ({"m/y": np.full((2, 3), np.nan)}, False),
    ],
)
def test_answers_that_differ_are_found(other, alike):
    difference = served._difference("m", {"m/y": np.ones((2, 3))}, other)
    assert Agreement("26.08", "m", difference).alike is alike


def test_no_answer_is_not_agreement():
    assert not Agreement("26.08", "m", served._difference("m", {}, {})).alike


def test_inputs_are_the_same_each_time_and_of_the_graphs_types(tmp_path):
    model = onnx.load(graph(tmp_path / "a.onnx"))
    first, again = sample(model), sample(model)
    assert first["x"].shape == (2, 64)
    assert first["x"].dtype == np.float32
    np.testing.assert_array_equal(first["x"], again["x"])
