"""What a measurement is taken on, and what programs take of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perf.harness import machine
from perf.harness.machine import cpu_seconds_by_program, gpu_metrics, read_gpu_metrics


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
