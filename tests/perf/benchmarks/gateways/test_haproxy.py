"""What the gateway costs is measured each way, and comes out whole."""

import json

import pytest

from perf.cli import main
from tests.gateways import needs_haproxy

pytestmark = needs_haproxy


@pytest.mark.slow
def test_a_short_run(tmp_path, capsys):
    output = tmp_path / "raw.json"
    options = ["--rounds=1", "--requests=10", "--seconds=1", f"--output={output}"]
    assert main(["haproxy", *options]) == 0
    raw = json.loads(output.read_text())
    (taken,) = raw["rounds"]
    for kind in ("jpeg_grpc", "jpeg_http", "ready_grpc", "metadata_http"):
        assert all(taken[kind][way]["p50_ms"] > 0 for way in ("direct", "bare", "kept", "gateway"))
        assert taken[kind]["direct"]["cpu_us"] == 0
    assert min(taken["throughput"].values()) > 0
    assert "JPEGs over gRPC at 8" in capsys.readouterr().out


def test_a_model_that_takes_no_files(capsys):
    assert main(["haproxy", "text_recognizer"]) == 1
    assert "text_recognizer takes no files" in capsys.readouterr().err
