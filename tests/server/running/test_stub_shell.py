"""The `bash` that tritonserver finds: names of models stay names."""

import os
import subprocess
from pathlib import Path

import pytest

from server import TritonServer
from server.running import stub_shell
from server.running.stub_shell import started_stub
from tests.backend.models import times
from tests.graphs import publish

SEGMENTS = "triton-vision-1-abcdef-"
NAMES = ["plain", "two words", "(", "a;b", "$HOME", "$(touch ran)", "`touch ran`", "'", '"', "*", "#", "~",
         "new\nline", "back\\slash", "naïve", " -x ", "7 8 9", "a & touch ran", ""]  # fmt: skip


@pytest.fixture
def bash(tmp_path):
    return stub_shell.install(tmp_path / "bin", SEGMENTS) / "bash"


@pytest.fixture
def stub(tmp_path):
    """Prints its arguments, as tritonserver's stub gets them."""
    path = tmp_path / "triton_python_backend_stub"
    path.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    path.chmod(0o755)
    return path


def arguments_of(bash, command, folder):
    done = subprocess.run([bash, "-c", command], capture_output=True, check=True, cwd=folder)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_gets_each_name_whole(bash, stub, tmp_path, name):
    rest = f"{SEGMENTS}0f-1e 1048576 67108864 4711 /backends/python 99"
    model = f"/models/{name}/1/model.onnx"
    command = f" exec {stub} {model} {rest} {name}_0_0 DEFAULT"
    assert arguments_of(bash, command, tmp_path) == [model, *rest.split(), f"{name}_0_0", "DEFAULT"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_process_is_for_is_known_without_its_command_line(bash, stub, tmp_path, name):
    model = f"/models/{name}/1/model.onnx"
    command = f" exec {stub} {model} {SEGMENTS}0f-1e 1 2 3 /backends/python 99 {name}_0_0 DEFAULT"
    with subprocess.Popen([bash, "-c", command], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        process.wait()
    assert started_stub(bash.parent, process.pid) == (Path(model), f"{name}_0_0")
    assert started_stub(bash.parent, 1) is None


def test_an_environment_is_still_activated(bash, stub, tmp_path):
    (tmp_path / "activate").write_text("export ACTIVATED=yes\n")
    stub.write_text('#!/bin/sh\nprintf "%s\\0" "$ACTIVATED" "$@"\n')
    rest = f"{SEGMENTS}0f 1 2 3 /backends/python 4"
    command = (
        f"source {tmp_path / 'activate'} && exec env LD_LIBRARY_PATH=/lib:$LD_LIBRARY_PATH {stub} "
        f"/m/a b/1/model.py {rest} a b_0 DEFAULT"
    )
    found = arguments_of(bash, command, tmp_path)
    assert found == ["yes", "/m/a b/1/model.py", *rest.split(), "a b_0", "DEFAULT"]


def test_all_else_goes_to_the_real_one(bash, tmp_path):
    assert arguments_of(bash, 'printf "%s\\0" "$BASH_VERSION"', tmp_path)[0]
    script = tmp_path / "script"
    script.write_text("exit 3\n")
    assert subprocess.run([bash, script, "a", "b"], check=False).returncode == 3
    assert subprocess.run([bash, "-c", "exit $1", "x", "4"], check=False).returncode == 4


@pytest.mark.slow
def test_a_python_model_and_its_repository_have_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "two $(touch ran) words"
    repository = tmp_path / f"models of {name}"
    publish(repository, "times_two", times(2))
    model = repository / name / "1"
    model.mkdir(parents=True)
    (model / "model.py").write_text(
        "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
    )
    (model.parent / "config.pbtxt").write_text(
        'backend: "python" input { name: "x" data_type: TYPE_FP32 dims: 1 } '
        'output { name: "y" data_type: TYPE_FP32 dims: 1 } instance_group { kind: KIND_CPU }'
    )
    with TritonServer(repository, log=tmp_path / "triton.log") as server:
        assert {status.name for status in server.models() if status.ready} == {"times_two", name}
    assert "ran" not in os.listdir(tmp_path)
