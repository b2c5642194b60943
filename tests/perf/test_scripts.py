"""The same sweeps with plain perf_analyzer."""

import os
import subprocess

import pytest

from perf.harness.generators.analyzer import find_analyzer, read_report
from perf.harness.inputs import write_inputs
from tests.conftest import ROOT

REPOSITORY = ROOT / "model_repository"


def test_scripts_refuse_without_perf_analyzer(tmp_path):
    for script in ("concurrency", "request-rate", "sequences"):
        path = ROOT / "perf" / "scripts" / f"{script}.sh"
        assert os.access(path, os.X_OK)
        done = subprocess.run(
            ["/bin/sh", str(path)],
            env={"PATH": "/usr/bin:/bin", "OUT": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "perf_analyzer is not on PATH" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "reports"),
    [
        ("concurrency", ["efficientnet_lite0", "1:1:1"], ["grpc", "grpc-shm", "http"]),
        ("request-rate", ["efficientnet_lite0", "20"], ["20-constant", "20-poisson"]),
        ("sequences", ["text_stream", "2:2:1"], ["grpc", "stream"]),
    ],
)
def test_scripts_measure_with_plain_perf_analyzer(script, arguments, reports, server, tmp_path):
    analyzer = find_analyzer()
    (tmp_path / "perf_analyzer").symlink_to(analyzer.binary)
    write_inputs(arguments[0], tmp_path / f"{arguments[0]}.json", REPOSITORY)
    done = subprocess.run(
        [str(ROOT / "perf" / "scripts" / f"{script}.sh"), *arguments],
        env={
            **analyzer.environment,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            **{"URL": server.grpc_url, "HTTP_URL": server.http_url, "OUT": str(tmp_path)},
            **{"INPUTS": str(tmp_path), "WINDOW_MS": "500", "STABILITY": "1000"},
            "SHARED_MEMORY": "yes",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "random values" not in done.stderr
    found = {path.stem.removeprefix(f"{arguments[0]}-"): path for path in tmp_path.glob("*.csv")}
    assert sorted(found) == reports
    assert all(float(read_report(path)[0]["Inferences/Second"]) > 0 for path in found.values())
