"""The comparison with in-process ONNX Runtime comes out whole."""

import json
import subprocess
import sys

import pytest

from perf.cli import main
from perf.harness.load import BREAKDOWN
from tests.conftest import ROOT


@pytest.mark.slow
def test_throughput_reports_both_sides_and_the_breakdown(tmp_path):
    output = tmp_path / "raw.json"
    options = ["--rounds=1", "--seconds=2", f"--output={output}"]
    command = [sys.executable, "-m", "perf", "throughput", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    (one_round,) = report["rounds"]
    assert one_round["throughput"] > 0
    assert one_round["in_process"] > 0
    assert set(one_round["breakdown_us"]) == set(BREAKDOWN)
    assert one_round["cores_busy"]["tritonserver"] > 0
    assert report["in_process_by_batch"][str(report["in_process_batch"])] == max(
        report["in_process_by_batch"].values()
    )


def test_a_graph_that_cannot_be_measured_alone_is_an_error(capsys):
    assert main(["throughput", "text_recognizer"]) == 1
    assert "error: model_repository/text_recognizer/" in (told := capsys.readouterr().err)
    assert "only numbers of one size behind an open batch" in told
