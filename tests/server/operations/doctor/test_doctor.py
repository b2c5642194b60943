"""`python -m server doctor`: what it makes of nvidia-smi's answers, of Docker's, and of repositories."""

import json
import shutil
import subprocess
import sys

import pytest
from onnx import helper

from server import TritonServer
from server.operations.doctor import cli as doctor
from server.operations.doctor import gpu as doctor_gpu
from server.operations.doctor import host as doctor_host
from server.operations.doctor import models as doctor_models
from server.operations.doctor.release import facts_here
from server.operations.doctor.report import GREEN, RED, YELLOW
from server.running.process import port_is_free
from tests.conftest import ROOT
from tests.graphs import FLOAT, graph, publish
from tests.processes import wait_until

FACTS = facts_here()

A10 = "0, GPU-0b1c9f4e-0000-4000-8000-000000000001, NVIDIA A10G, 560.35.03, 23028, 4, 8.6, [N/A]\n"
TWO = """\
0, GPU-0b1c9f4e-0000-4000-8000-000000000002, NVIDIA H100 80GB HBM3, 570.124.06, 81559, 1, 9.0, Disabled
1, GPU-0b1c9f4e-0000-4000-8000-000000000003, NVIDIA H100 80GB HBM3, 570.124.06, 81559, 40211, 9.0, Disabled
"""
MIG = """\
0, GPU-0b1c9f4e-0000-4000-8000-000000000004, NVIDIA A100-SXM4-40GB, 565.57.01, 40960, 87, 8.0, Enabled
1, GPU-0b1c9f4e-0000-4000-8000-000000000005, NVIDIA A100-SXM4-40GB, 565.57.01, 40960, 0, 8.0, Enabled
"""
MIG_LIST = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-0b1c9f4e-0000-4000-8000-000000000004)
  MIG 3g.20gb     Device  0: (UUID: MIG-11111111-0000-4000-8000-000000000001)
  MIG 1g.5gb      Device  1: (UUID: MIG-11111111-0000-4000-8000-000000000002)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-0b1c9f4e-0000-4000-8000-000000000005)
"""
WSL = """\
0, GPU-0b1c9f4e-0000-4000-8000-000000000006, NVIDIA GeForce RTX 4070 Laptop GPU, 566.36, 8188, 921, 8.9, [N/A]
"""
UNIFIED_MEMORY = (
    "0, GPU-0b1c9f4e-0000-4000-8000-000000000007, NVIDIA GB10, 580.95.05, [N/A], [N/A], 12.1, [N/A]\n"
)
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
    "NVIDIA driver is installed and running.\n\n"
)


def line(driver="560.35.03", name="Tesla T4", capability="7.5"):
    return f"0, GPU-0b1c9f4e-0000-4000-8000-000000000008, {name}, {driver}, 15360, 2, {capability}, [N/A]\n"


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program on PATH that answers as nvidia-smi was seen to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def answer(query, status=0, listing="", unknown=()):
        (folder / "query").write_text(query)
        (folder / "listing").write_text(listing)
        refusals = "".join(
            f"""*{field}*) echo 'Field "{field}" is not a valid field to query.'; echo; exit 2 ;;\n"""
            for field in unknown
        )
        program = folder / "nvidia-smi"
        program.write_text(
            f'#!/bin/sh\ncase "$1" in\n{refusals}-L) cat {folder}/listing ;;\n'
            f"*) cat {folder}/query; exit {status} ;;\nesac\n"
        )
        program.chmod(0o755)

    return answer


def levels(require_gpu=False, cuda_major=None):
    checks = doctor_gpu.gpu_checks(doctor_gpu.survey_gpus(), FACTS, require_gpu, cuda_major)
    return {check.name: check.level for check in checks}, " ".join(f"{c.found} {c.next}" for c in checks)


def test_one_gpu(nvidia_smi):
    nvidia_smi(A10)
    (gpu,) = doctor_gpu.survey_gpus().gpus
    assert (gpu.name, gpu.driver, gpu.compute_capability) == ("NVIDIA A10G", "560.35.03", (8, 6))
    assert (gpu.memory_mib, gpu.memory_used_mib, gpu.mig) == (23028, 4, None)
    found, text = levels(require_gpu=True)
    assert found == {"driver": GREEN, "GPU 0": GREEN}
    assert "23,024 free" in text


def test_several_gpus(nvidia_smi):
    nvidia_smi(TWO)
    assert [gpu.index for gpu in doctor_gpu.survey_gpus().gpus] == [0, 1]
    assert levels()[0] == {"driver": GREEN, "GPU 0": GREEN, "GPU 1": GREEN}


def test_mig_counts_only_where_there_is_an_instance(nvidia_smi):
    nvidia_smi(MIG, listing=MIG_LIST)
    first, second = doctor_gpu.survey_gpus().gpus
    assert first.mig_devices == ("3g.20gb", "1g.5gb")
    assert second.mig_devices == ()
    found, text = levels()
    assert found == {"driver": GREEN, "GPU 0": GREEN, "GPU 1": RED}
    assert "nvidia-smi mig -i 1 -cgi" in text


def test_wsl_and_values_that_are_not_there(nvidia_smi):
    nvidia_smi(WSL)
    assert levels()[0] == {"driver": GREEN, "GPU 0": GREEN}
    nvidia_smi(UNIFIED_MEMORY)
    (gpu,) = doctor_gpu.survey_gpus().gpus
    assert (gpu.memory_mib, gpu.compute_capability) == (None, (12, 1))
    assert "memory unknown" in levels()[1]


def test_an_old_driver_knows_fewer_fields(nvidia_smi):
    without = ", ".join(line(driver="470.57.02").strip().split(", ")[:6]) + "\n"
    nvidia_smi(without, unknown=["compute_cap", "mig.mode.current"])
    (gpu,) = doctor_gpu.survey_gpus().gpus
    assert (gpu.driver, gpu.memory_mib, gpu.compute_capability, gpu.mig) == ("470.57.02", 15360, None, None)
    found, text = levels()
    assert found == {"driver": YELLOW, "GPU 0": YELLOW}
    assert "compute capability unknown" in text


def test_warnings_around_the_rows_are_passed_over(nvidia_smi):
    nvidia_smi("WARNING: infoROM is corrupted at gpu 0000:00:1E.0\n" + A10 + "\n")
    assert len(doctor_gpu.survey_gpus().gpus) == 1


@pytest.mark.parametrize(
    ("driver", "name", "level"),
    [
        ("560.28.03", "Tesla T4", GREEN),
        ("595.71.05", "NVIDIA GeForce RTX 5090", GREEN),
        ("550.54.15", "NVIDIA L4", YELLOW),
        ("535.183.01", "Tesla T4", YELLOW),
        ("535.54.03", "Tesla T4", RED),
        ("470.57.02", "Tesla T4", YELLOW),
        ("470.42.01", "Tesla T4", RED),
        ("535.183.01", "NVIDIA GeForce RTX 3090", RED),
        ("510.47.03", "NVIDIA A100-SXM4-40GB", RED),
        ("390.157", "GeForce GTX 1080", RED),
        ("[N/A]", "Tesla T4", YELLOW),
    ],
)
def test_the_driver_is_held_against_the_lock(nvidia_smi, driver, name, level):
    nvidia_smi(line(driver, name))
    assert levels()[0]["driver"] == level


@pytest.mark.parametrize(
    ("driver", "cuda_major", "level"),
    [
        ("570.124.06", None, GREEN),
        ("570.124.06", 12, GREEN),
        ("570.124.06", 13, YELLOW),
        ("580.159.04", 13, GREEN),
        ("550.54.15", 13, YELLOW),
    ],
)
def test_cuda_13_needs_a_newer_driver_than_the_container(nvidia_smi, driver, cuda_major, level):
    nvidia_smi(line(driver))
    found, text = levels(cuda_major=cuda_major)
    assert found["driver"] == level
    assert ("an onnxruntime-gpu for CUDA 12" in text) == (driver[:3] == "570" and cuda_major == 13)


@pytest.mark.parametrize(
    ("told", "major"), [("cuda_version = '13.0'\n", 13), ("cuda_version = '12.8'\n", 12), ("", None)]
)
def test_onnxruntime_says_which_cuda_it_is_built_for(tmp_path, monkeypatch, told, major):
    info = tmp_path / "onnxruntime" / "capi" / "build_and_package_info.py"
    info.parent.mkdir(parents=True)
    info.write_text(f"package_name = 'onnxruntime-gpu'\n{told}")
    metadata = tmp_path / "onnxruntime_gpu-1.31.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor_host.cuda_of_onnxruntime() == major
    info.unlink()
    assert doctor_host.cuda_of_onnxruntime() is None


@pytest.mark.parametrize(
    ("capability", "level"),
    [
        ("5.2", RED),
        ("6.0", YELLOW),
        ("7.0", YELLOW),
        ("7.5", GREEN),
        ("9.0", GREEN),
        ("10.0", YELLOW),
        ("[N/A]", YELLOW),
    ],
)
def test_the_compute_capability_is_held_against_the_lock(nvidia_smi, capability, level):
    nvidia_smi(line(capability=capability))
    assert levels()[0]["GPU 0"] == level


@pytest.mark.parametrize(
    ("said", "status", "remedy"),
    [
        ("No devices were found\n", 6, "lspci"),
        (NO_DRIVER, 9, "kernel module"),
        (
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.133\n",
            18,
            "reboot",
        ),
        ("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.\n", 12, "driver again"),
        ("Failed to initialize NVML: GPU access blocked by the operating system\n", 17, "wsl --update"),
        ("Failed to initialize NVML: Unknown Error\n", 255, "force-recreate"),
        (
            "Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the system\n",
            15,
            "reboot",
        ),
        ("something new\n", 42, "run `nvidia-smi`"),
        ("", 139, "run `nvidia-smi`"),
    ],
)
def test_a_broken_driver_is_red_and_named(nvidia_smi, said, status, remedy):
    nvidia_smi(said, status)
    found, text = levels()
    assert found == {"GPU": RED}
    assert " ".join(said.split()) in text
    assert remedy in text


def test_no_gpu_is_no_fault_unless_one_is_required(monkeypatch):
    monkeypatch.setattr(doctor_gpu.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor_gpu.os.path, "exists", lambda _: False)
    found, text = levels()
    assert found == {"GPU": YELLOW}
    assert "no GPU" in text
    assert levels(require_gpu=True)[0] == {"GPU": RED}


def test_a_hidden_gpu_is_not_used(nvidia_smi, monkeypatch):
    nvidia_smi(A10)
    assert doctor_gpu.gpu_usable(doctor_gpu.gpu_checks(doctor_gpu.survey_gpus(), FACTS, False))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert levels()[0] == {"driver": GREEN, "GPU 0": GREEN, "GPU": YELLOW}
    assert not doctor_gpu.gpu_usable(doctor_gpu.gpu_checks(doctor_gpu.survey_gpus(), FACTS, False))


def run_doctor(*arguments):
    command = [sys.executable, "-m", "server", "doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_tells_a_person_what_to_do(nvidia_smi):
    nvidia_smi(line(driver="390.157", name="GeForce GTX 1080", capability="6.1"))
    done = run_doctor()
    assert done.returncode == 1, done.stderr
    assert "red     driver" in done.stdout
    assert f"-> install driver {FACTS['driver']['value']} or newer" in done.stdout
    assert "Mend the red lines first" in done.stdout


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


def test_a_provider_that_falls_back_to_the_cpu_is_noticed():
    assert doctor_host.why_not("CPUExecutionProvider") is None
    if "cuda" not in doctor_host.provider_checks(doctor_host.find_installation(), gpu=False)[1]:
        assert doctor_host.why_not("CUDAExecutionProvider")


@pytest.mark.slow
def test_ports_in_use_are_told_with_their_user(server, monkeypatch):
    http, metrics = (int(url.split(":")[-1].split("/")[0]) for url in (server.http_url, server.metrics_url))
    monkeypatch.setattr(doctor_host, "PORTS", {"http": http, "metrics": metrics})
    wait_until(lambda: not port_is_free("127.0.0.1", metrics))  # Triton opens it last, after it is live
    (check,) = doctor_host.port_checks(in_image=False)
    assert check.level == YELLOW
    assert f"{http} (http), {metrics} (metrics), by a Triton" in check.found
    (check,) = doctor_host.port_checks(in_image=True)  # which it is for
    assert (check.level, check.next) == (GREEN, "")


def test_what_a_running_server_uses_of_a_containers_shared_memory_is_no_fault(tmp_path, monkeypatch):
    used = 100 * 2**20
    monkeypatch.setattr(
        doctor_host.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, used, 2**30 - used)
    )
    for in_image, level in ((True, GREEN), (False, YELLOW)):
        assert doctor_host.shared_memory_check(tmp_path, in_image).level == level


def test_a_container_that_is_to_have_no_gpu_lacks_none(monkeypatch):
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "void")
    none = doctor_gpu.GpuSurvey((), "no GPU", "")
    levels = [doctor_gpu.gpu_checks(none, FACTS, require)[0].level for require in (False, True)]
    assert levels == [GREEN, RED]


@pytest.mark.parametrize(
    ("answers", "level", "words"),
    [
        ({"version": "exit 1"}, YELLOW, "does not answer"),
        ({"version": "echo 27.3.1", "compose": "exit 1"}, YELLOW, "docker-compose-plugin"),
        ({"version": "echo 27.3.1", "compose": "echo 2.20.0"}, YELLOW, "older than 2.20.2"),
        ({"version": "echo 27.3.1", "compose": "echo 2.29.7", "info": "echo '{}'"}, YELLOW, "runtime"),
        (
            {"version": "echo 27.3.1", "compose": "echo v2.29.7", "info": """echo '{"nvidia":{}}'"""},
            GREEN,
            "nvidia-container-toolkit 1.16.2",
        ),
    ],
)
def test_the_container_runtime(tmp_path, monkeypatch, answers, level, words):
    cases = "".join(f"{command}) {answer} ;;\n" for command, answer in answers.items())
    for name, body in (
        ("docker", f'case "$1" in\n{cases}esac\n'),
        ("nvidia-ctk", "echo NVIDIA Container Toolkit CLI version 1.16.2"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(doctor_host, "in_container", lambda: False)
    check = doctor_host.container_check(gpu=True)
    assert (check.level, words in f"{check.found} {check.next}") == (level, True), check


NEGATE = graph(
    [helper.make_node("Neg", ["x"], ["y"])], [("x", FLOAT, ["batch", 2])], [("y", FLOAT, ["batch", 2])]
)
MODELS = {
    "automatic": 'backend: "onnxruntime" max_batch_size: 4',
    "on_cpu": 'backend: "onnxruntime" max_batch_size: 4 instance_group { kind: KIND_CPU }',
    "on_gpu": '# or KIND_CPU\nbackend: "onnxruntime" instance_group [{ kind: KIND_GPU }]',
    "unknown": 'backend: "no_such_backend"',
    "by_platform": 'platform: "onnxruntime_onnx" max_batch_size: 4',
    "by_file": "max_batch_size: 4",
    "plan": 'platform: "tensorrt_plan"',
}


@pytest.fixture
def repository(tmp_path):
    for name, config in MODELS.items():
        publish(tmp_path / "models", name, NEGATE, config)
    plan = tmp_path / "models" / "plan" / "1"
    (plan / "model.onnx").rename(plan / "model.plan")
    (tmp_path / "models" / "unexported").mkdir()
    (tmp_path / "models" / "unexported" / "config.pbtxt").write_text('backend: "onnxruntime"')
    return tmp_path / "models"


def test_what_it_says_of_models_is_what_the_server_does(repository, tmp_path):
    checks = {
        check.name.removeprefix("model "): check
        for check in doctor.examine(repository, doctor_gpu.survey_gpus())
        if check.name.startswith("model ")
    }
    assert checks["unexported"].level == YELLOW
    with TritonServer(repository, log=tmp_path / "log") as running:
        ready = {model.name for model in running.models() if model.ready}
    said = {name for name, check in checks.items() if check.level != RED} - {"unexported"}
    assert said == ready
    assert {"automatic", "on_cpu", "by_platform", "by_file"} <= ready


@pytest.mark.parametrize(
    ("gpu", "providers", "expected"),
    [
        (False, [], {"automatic": "CPU", "on_gpu": "will not load"}),
        (True, ["cuda"], {"automatic": "GPU", "on_cpu": "CPU, as its", "on_gpu": "GPU"}),
        (True, [], {"automatic": "CPU, beside an idle GPU", "on_cpu": "CPU, as its"}),
    ],
)
def test_where_each_model_would_run(repository, gpu, providers, expected):
    machine = doctor_models.Machine(doctor_host.find_installation(), gpu, providers, plans=gpu)
    checks = {check.name.split()[-1]: check for check in doctor_models.model_checks(repository, machine)}
    assert {name: checks[name].found[: len(start)] for name, start in expected.items()} == expected


def test_an_accelerator_that_does_not_load_is_told(repository):
    accelerator = (
        'optimization { execution_accelerators { gpu_execution_accelerator: [{ name: "tensorrt" }] } }'
    )
    (repository / "automatic" / "config.pbtxt").write_text(f'backend: "onnxruntime" {accelerator}')
    installation = doctor_host.find_installation()
    for providers, level in ((["cuda"], YELLOW), (["cuda", "tensorrt"], GREEN)):
        machine = doctor_models.Machine(installation, True, providers, plans=True)
        assert doctor_models.model_checks(repository, machine)[0].level == level
