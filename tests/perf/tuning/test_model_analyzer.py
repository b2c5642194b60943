"""NVIDIA's Model Analyzer beside ours."""

import os
import subprocess

import pytest

from perf.harness.generators.analyzer import Analyzer
from perf.tuning.decision import Objective
from perf.tuning.model_analyzer import _run, settings

WITHIN_60_MS = Objective("throughput", slo_p99_ms=60)


def test_model_analyzer_gets_its_limit_and_writes_nowhere_else(tmp_path):
    analyzer = Analyzer(tmp_path / "perf_analyzer", {})
    folders = (tmp_path / name for name in ("models", "variants", "inputs.json", "reports"))
    models, variants, inputs, reports = folders
    made = settings(models, "double", variants, analyzer, WITHIN_60_MS, inputs, 32, reports)
    assert made["profile_models"]["double"]["constraints"] == {"perf_latency_p99": {"max": 60}}
    assert made["output_model_repository_path"] == str(variants)
    assert {made[key] for key in ("export_path", "checkpoint_directory")} == {
        str(reports),
        str(reports / "checkpoints"),
    }


@pytest.mark.timeout(60)
def test_ctrl_c_ends_it_wherever_it_comes(tmp_path, monkeypatch):
    def interrupted(process, timeout=None):
        monkeypatch.undo()
        process._waitpid_lock.acquire()  # as subprocess leaves it if Ctrl-C comes just there
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run(["sleep", "600"], dict(os.environ), tmp_path / "log", 600)
