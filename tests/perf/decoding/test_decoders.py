"""Decoders of photographs, compared."""

import json
from pathlib import Path

import pytest

from perf.cli import main
from perf.decoding import decoders
from perf.harness.serving import newest_graph
from tests.conftest import ROOT

CNN = "efficientnet_lite0"


@pytest.fixture
def second_version(tmp_path: Path) -> Path:
    """A repository in which nothing is left of the first version of the CNN."""
    graph = tmp_path / CNN / "2" / "model.onnx"
    graph.parent.mkdir(parents=True)
    graph.symlink_to(newest_graph(ROOT / "model_repository" / CNN))
    return tmp_path


@pytest.mark.slow
def test_one_kind_is_measured_with_the_newest_version(
    second_version: Path, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setattr(decoders, "REPOSITORY", second_version)
    raw = tmp_path / "raw.json"
    asked = ["--kinds", "photographs", "--only", "scaled while 2", "--rounds", "1", "--output", str(raw)]
    assert main(["decoders", *asked]) == 0
    rows = json.loads(raw.read_text())["rows"]
    assert {row["kind"] for row in rows} == {"photographs"}
    assert rows[0]["decoder"] == "image_decoder"
    assert rows[0]["same_top_1"] > 0.9 * rows[0]["images"]
    assert "speed" in capsys.readouterr().out


def test_an_unknown_kind_is_wrong_usage_that_names_the_kinds(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["decoders", "--kinds", "photograph"])
    assert ended.value.code == 2
    assert "mosaic 1024" in capsys.readouterr().err.partition("invalid choice")[2]
