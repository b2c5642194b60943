"""What the doctor makes of this machine: Docker, shared memory, ports, ONNX Runtime."""

import shutil

import pytest

from server.operations.doctor import host as doctor_host
from server.operations.doctor.report import GREEN, YELLOW
from server.running.process import port_is_free
from tests.processes import wait_until


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
