"""The measuring tools: perf_analyzer runs, and the comparison with in-process ONNX Runtime comes out whole.

What they measure is not asserted: a number from a busy machine would only make a flaky test.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from perf.cli import main
from perf.harness import analyzer, machine, raw
from perf.harness.load import BREAKDOWN, Load, Target, _stable, measure
from perf.harness.machine import cpu_seconds_by_program, gpu_metrics, read_gpu_metrics
from perf.harness.serving import sessions_and_threads
from tests.conftest import ROOT


def test_an_analyzer_that_does_not_run_is_reported_with_the_loaders_words(tmp_path, monkeypatch):
    broken = tmp_path / "perf_analyzer"
    broken.write_text("#!/bin/sh\necho 'libb64.so.0d: cannot open' >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr(analyzer.shutil, "which", lambda _: str(broken))
    monkeypatch.setattr(analyzer, "extract", lambda *_: broken)
    with pytest.raises(analyzer.AnalyzerError, match=r"libb64\.so\.0d: cannot open.*apt-get install"):
        analyzer.find_analyzer()


def test_an_analyzer_that_cannot_measure_is_an_error(tmp_path):
    with pytest.raises(analyzer.AnalyzerError, match="ended with status"):
        analyzer.find_analyzer().run(["-m", "nothing", "-u", "127.0.0.1:9"], tmp_path / "report.csv")


def test_a_level_tells_throughput_latency_and_executions(server):
    target = Target("efficientnet_lite0", server.grpc_url, server.http_url)
    level = measure(analyzer.find_analyzer(), target, Load(2), seconds=0.5)
    assert level["throughput"] > 0
    assert level["p50_ms"] <= level["p99_ms"]
    assert len(level["windows"]) == 3
    model = level["models"]["efficientnet_lite0"]
    assert 0 < model["executions"] <= model["inferences"]
    assert model["infer_us"] < model["request_us"] < 1e6


@pytest.mark.parametrize(
    ("windows", "stable"),
    [
        ([[100.0, 10.0], [105.0, 10.0], [95.0, 10.0]], True),
        ([[100.0, 10.0], [100.0, 10.0], [70.0, 10.0]], False),
        ([[100.0, 10.0], [100.0, 10.0], [100.0, 14.0]], False),
    ],
)
def test_a_level_is_stable_if_rate_and_latency_of_its_windows_are(windows, stable):
    assert _stable(windows, 10.0) is stable


def test_a_load_is_either_a_concurrency_or_a_rate():
    assert Load(request_rate=2.5, distribution="poisson").arguments() == [
        "--request-rate-range=2.5",
        "--request-distribution=poisson",
    ]
    for load in (Load(), Load(1, 2.0)):
        with pytest.raises(ValueError, match="either"):
            load.arguments()


def test_a_measurement_names_the_gpus_where_there_are_some(tmp_path, monkeypatch):
    answer = "".join(f"{n}, GPU-{n}, NVIDIA L4, 580.95.05, 23034, 1, 8.9, [N/A]\\n" for n in (0, 1))
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine._gpus.cache_clear()
    told = machine.describe()
    assert (told["gpu"], told["gpu_driver"]) == ("2 x NVIDIA L4", "580.95.05")
    program.write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    machine._gpus.cache_clear()
    assert not [name for name in machine.describe() if name.startswith("gpu")]
    machine._gpus.cache_clear()


def test_raw_results_of_another_kind_are_refused(tmp_path):
    raw.save(tmp_path / "a.json", raw.record("run", levels=[]))
    assert raw.load(tmp_path / "a.json", "run").machine["cores"]
    with pytest.raises(raw.RawError, match=r"a\.json is of kind 'run', not 'compare'"):
        raw.load(tmp_path / "a.json", "compare")
    (tmp_path / "b.json").write_text("no JSON")
    with pytest.raises(raw.RawError, match=r"b\.json is no raw result"):
        raw.load(tmp_path / "b.json")


def test_raw_results_are_read_as_they_were_written(tmp_path):
    one = raw.record("run", levels=[{"p50_ms": 1.5, "windows": [[1.0, 2.0]] * 30}], failed=[], note=None)
    raw.save(tmp_path / "a.json", one)
    assert raw.load(tmp_path / "a.json") == one
    written = (tmp_path / "a.json").read_text()
    assert json.loads(written)["format"] == raw.FORMAT
    assert max(map(len, written.splitlines())) < 200


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"format": raw.FORMAT + 1}, f"of another version, format {raw.FORMAT + 1}; format {raw.FORMAT} is"),
        ({"format": None}, "of another version, before formats had numbers; .* Measure again"),
        ({"kind": None}, "names no kind"),
        ({"machine": ["fast"]}, "its machine is no object"),
    ],
)
def test_raw_results_of_another_version_are_named(tmp_path, changed, told):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({**raw.record("run", levels=[]).as_json(), **changed}))
    with pytest.raises(raw.RawError, match=rf"a\.json is .*{told}"):
        raw.load(file)


def test_throughput_reports_both_sides_and_the_breakdown(tmp_path):
    output = tmp_path / "raw.json"
    command = [sys.executable, "-m", "perf", "throughput", "--rounds=1", "--seconds=1", f"--output={output}"]
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


def test_sessions_and_threads_are_those_of_the_config():
    config = text_format.Parse(
        "instance_group { count: 3 } instance_group { count: 1 }"
        'parameters { key: "intra_op_thread_count" value { string_value: "2" } }',
        ModelConfig(),
    )
    assert sessions_and_threads(config) == (4, 2)


def test_cpu_time_counts_children():
    before = cpu_seconds_by_program(os.getpid())
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        program = os.path.basename(sys.executable)
        while cpu_seconds_by_program(os.getpid()).get(program, 0) < before.get(program, 0) + 0.3:
            pass
    finally:
        busy.kill()
        busy.wait()


def test_gpu_metrics_are_read_by_gpu():
    text = """\
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-340cec52"} 0.870000
nv_gpu_utilization{gpu_uuid="GPU-e35ba3d2"} 0.000000
nv_gpu_memory_used_bytes{gpu_uuid="GPU-340cec52"} 1.234e+09
nv_energy_consumption{gpu_uuid="GPU-340cec52"} 1234.56
nv_inference_count{model="efficientnet_lite0",version="1"} 7
"""
    assert gpu_metrics(text) == {
        "GPU-340cec52": {
            "nv_gpu_utilization": 0.87,
            "nv_gpu_memory_used_bytes": 1.234e9,
            "nv_energy_consumption": 1234.56,
        },
        "GPU-e35ba3d2": {"nv_gpu_utilization": 0.0},
    }


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_a_server_without_a_gpu_has_no_gpu_metrics(server):
    assert read_gpu_metrics(server.metrics_url) == {}
