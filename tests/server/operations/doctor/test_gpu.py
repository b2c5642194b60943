"""What the doctor makes of nvidia-smi's answers."""

import pytest

from server.operations.doctor import gpu as doctor_gpu
from server.operations.doctor.release import facts_here
from server.operations.doctor.report import GREEN, RED, YELLOW
from tests.server.operations.doctor.nvidia_smi import (
    A10,
    MIG,
    MIG_LIST,
    NO_DRIVER,
    TWO,
    UNIFIED_MEMORY,
    WSL,
    line,
)

FACTS = facts_here()


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


def test_a_container_that_is_to_have_no_gpu_lacks_none(monkeypatch):
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "void")
    none = doctor_gpu.GpuSurvey((), "no GPU", "")
    levels = [doctor_gpu.gpu_checks(none, FACTS, require)[0].level for require in (False, True)]
    assert levels == [GREEN, RED]
