"""`python -m server doctor`, for people and for programs."""

import json
import shutil
import subprocess
import sys

import pytest

from server.operations.doctor import gpu as doctor_gpu
from server.operations.doctor.release import facts_here
from server.operations.doctor.report import GREEN, RED
from tests.conftest import ROOT
from tests.server.operations.doctor.nvidia_smi import line

FACTS = facts_here()


def run_doctor(*arguments):
    command = [sys.executable, "-m", "server", "doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_tells_a_person_what_to_do(nvidia_smi):
    nvidia_smi(line(driver="390.157", name="GeForce GTX 1080", capability="6.1"))
    done = run_doctor()
    assert done.returncode == 1, done.stderr
    assert "red     driver" in done.stdout
    assert f"-> install driver {FACTS['driver']['value']} or newer" in done.stdout
    assert "Mend the red lines first" in done.stdout


@pytest.mark.slow
def test_the_command_tells_a_program_the_same():
    done = run_doctor("--json")
    report = json.loads(done.stdout)
    assert done.returncode == (report["verdict"] == RED), done.stderr
    checks = {check["name"]: check for check in report["checks"]}
    assert {"Python", "tritonserver", "ONNX Runtime", "shared memory", "ports"} <= checks.keys()
    assert checks["tritonserver"]["level"] == GREEN
    assert FACTS["triton"]["value"] in checks["tritonserver"]["found"]
    models = {name: check for name, check in checks.items() if name.startswith("model ")}
    assert "model recognize_objects" in models
    assert {check["level"] for check in models.values()} == {GREEN}
    if shutil.which("nvidia-smi") is None:
        assert report["gpus"] == []
        assert "no GPU" in checks["GPU"]["found"]


@pytest.mark.gpu
def test_a_gpu_machine_can_serve_on_its_gpu():
    if not doctor_gpu.survey_gpus().gpus:
        pytest.skip(f"no GPU here: {doctor_gpu.survey_gpus().problem}")
    done = run_doctor("--json", "--require-gpu")
    assert done.returncode == 0, done.stdout
    models = [c for c in json.loads(done.stdout)["checks"] if c["name"] == "model efficientnet_lite0"]
    assert models[0]["found"].startswith("GPU")


def test_a_repository_that_is_not_there_is_red(tmp_path):
    done = run_doctor("--model-repository", str(tmp_path / "x"))
    assert done.returncode == 1
    assert "there is no model repository at" in done.stdout
