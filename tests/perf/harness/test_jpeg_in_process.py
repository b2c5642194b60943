"""JPEG bytes to probabilities without a server."""

import json
import sys
from pathlib import Path

import pytest

from perf.harness import jpeg_in_process
from perf.harness.serving import newest_graph
from tests.conftest import ROOT

CNN = "efficientnet_lite0"


def test_the_newest_version_runs_unless_another_is_named(tmp_path: Path, monkeypatch, capsys):
    graph = tmp_path / CNN / "2" / "model.onnx"
    monkeypatch.setattr(jpeg_in_process, "REPOSITORY", tmp_path)
    monkeypatch.setattr(sys, "argv", ["jpeg_in_process", "--threads", "--seconds", "0.1"])
    with pytest.raises(SystemExit):
        jpeg_in_process.main()
    assert "run `python -m export efficientnet_lite0` first" in capsys.readouterr().err
    graph.parent.mkdir(parents=True)
    graph.symlink_to(newest_graph(ROOT / "model_repository" / CNN))
    jpeg_in_process.main()
    assert json.loads(capsys.readouterr().out)["images_per_second"] > 0
