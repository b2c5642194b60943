"""Would TensorRT take what is exported? The record of what TensorRT-RTX said, its page, the asking."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.catalogue import CATALOGUE
from export.cli.commands import run
from export.cli.trt_parse import RECORD, verdicts
from export.common.errors import PackageError
from export.pipelines.plans.profiles import PlanProfile, profile_of_graph
from export.pipelines.plans.rtx import PINS, RTX, precisions_of, try_graph
from tests.export.pipelines.plans.models import columns, graph_of

ROOT = Path(__file__).resolve().parents[4]
MODELS = ROOT / "model_repository"
PAGE = ROOT / "docs" / "reference" / "tensorrt.md"
RECORDED = json.loads(RECORD.read_text())
NAMES = sorted({graph["model"] for graph in RECORDED["graphs"]})
heavy = [pytest.mark.trt, pytest.mark.long, pytest.mark.timeout(3600)]


def test_the_record_is_of_the_pinned_version_and_of_every_graph():
    assert RECORDED["pins"] == list(PINS)
    assert {name for name, spec in CATALOGUE.items() if spec.weights} <= set(NAMES)
    for graph in RECORDED["graphs"]:
        asked = graph["version"]
        assert f"tensorrt-rtx-cu12=={asked}" in PINS or (graph["stage"] != "done" and not asked)
        assert (graph["stage"] == "done") == (not graph["error"])


def test_the_page_names_what_is_refused_and_nothing_else():
    section = PAGE.read_text().partition("## What TensorRT-RTX says")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", section, re.M)
    refused = {
        (graph["model"], graph["precision"]): graph["error"]
        for graph in RECORDED["graphs"]
        if graph["stage"] != "done"
    }
    assert {(model, precision.lower()) for model, precision, _ in rows} == set(refused)
    for model, precision, why in rows:
        for words in re.findall(r"`([^`]+)`", why):  # what it quotes it has from the real error
            assert words in refused[model, precision.lower()]
    assert f"{len(RECORDED['graphs'])} graphs" in section
    assert RECORDED["graphs"][0]["version"] in section


@pytest.fixture
def asked():
    try:
        RTX.python()
    except PackageError as error:
        pytest.skip(f"TensorRT-RTX cannot be had here: {error}")


@pytest.mark.trt
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_every_exported_graph_fares_as_recorded(asked, name):
    recorded = [graph for graph in RECORDED["graphs"] if graph["model"] == name]
    found = [dataclasses.asdict(verdict) for verdict in verdicts(MODELS, [name])]
    for graph in (*recorded, *found):
        graph["error"] = bool(graph["error"])  # its words name addresses and counters
    assert found == recorded, "`python -m export trt-parse --record`, and correct docs/reference/tensorrt.md"


@pytest.mark.trt
@pytest.mark.long
def test_a_graph_that_transposes_bytes_is_refused_by_the_parser(asked, published, monkeypatch):
    """As ours were: so the parser is really asked, and its reason told."""
    node = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0], name="turn"),
        helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        node, "g", [value("x", TensorProto.UINT8, ["n", 2])], [value("y", TensorProto.FLOAT, [2, "n"])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    monkeypatch.setattr("export.pipelines.plans.rtx.prepare", lambda model, precision: model)
    shapes = PlanProfile({"x": (1, 2)}, {"x": (4, 2)}, {"x": (8, 2)})
    verdict = try_graph("turned", model, "fp32", shapes)
    assert verdict.stage == "parse"
    assert "UInt8" in verdict.error
    assert try_graph("columns", graph_of(published, columns), "fp32", profile_of_graph(
        graph_of(published, columns), 4, (8, 16, 32))).stage == "done"  # fmt: skip


def test_precisions_are_those_of_the_graph(published):
    model = graph_of(published, columns)
    assert precisions_of(model) == ("fp32", "fp16")
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")]
    )
    model.graph.node.append(helper.make_node("QuantizeLinear", [model.graph.output[0].name, "s", "z"], ["q"]))
    assert precisions_of(model) == ("int8",)


def test_a_graph_without_a_spec_has_the_sizes_of_its_config(published):
    model = graph_of(published, columns)
    assert profile_of_graph(model, 4, (8, 16, 32)).texts() == ("line:1x8x8", "line:4x8x16", "line:4x8x32")
    assert profile_of_graph(model, 0, (8, 16, 32)).texts()[2] == "line:32x8x32"


def test_without_an_index_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert run(["trt-parse", "mobilenet_v2"]) == 1
    assert "the environment with TensorRT-RTX could not be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "models", "message"),
    [
        ("missing", [], "there is no folder"),
        (".", [], "no model in"),
        ("m/config.pbtxt", [], "there is no folder"),
        (".", ["m"], "m has no model.onnx"),
    ],
)
def test_a_repository_without_graphs_is_an_error(monkeypatch, tmp_path, capsys, folder, models, message):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").touch()
    assert run(["trt-parse", *models, "--model-repository", str(tmp_path / folder)]) == 1
    told = capsys.readouterr()
    assert (told.out, message in told.err) == ("", True)


def test_a_record_is_of_all_models(capsys):
    with pytest.raises(SystemExit, match="2"):
        run(["trt-parse", "mobilenet_v2", "--record"])
    assert "--record goes with all models" in capsys.readouterr().err
