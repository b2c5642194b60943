"""What TensorFlow Serving's interfaces cost is measured both ways, and comes out whole."""

import json

import pytest

from perf.cli import main


@pytest.mark.slow
def test_a_short_run(tmp_path, capsys):
    output = tmp_path / "raw.json"
    assert main(["gateway", "--rounds=1", "--requests=10", "--seconds=1", f"--output={output}"]) == 0
    raw = json.loads(output.read_text())
    (taken,) = raw["rounds"]
    for way in ("direct", "bare", "gateway"):
        assert taken[f"{way}_one"]["p50_ms"] > 0
        assert taken[f"{way}_many"]["throughput"] > 0
    assert taken["direct_one"]["cpu_us"] == 0 < taken["gateway_one"]["cpu_us"]
    assert taken["gateway_many"]["gateway_cpu_s"] > 0
    assert taken["bare_many"]["gateway_cpu_s"] > 0
    assert min(raw["stages_us"].values()) > 0
    told = capsys.readouterr().out
    assert "gRPC, HTTP, event loop" in told
    assert "ratio" in told


def test_a_model_that_takes_no_photograph(capsys):
    assert main(["gateway", "text_recognizer"]) == 1
    assert "text_recognizer takes no photograph as pixels" in capsys.readouterr().err
