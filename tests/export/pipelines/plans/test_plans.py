"""From a published graph to a published TensorRT plan, as far as it can be tested without a GPU.

Stand-ins take the place of what a GPU machine has (tests/stand_ins.py).
"""

import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import onnxruntime
import pytest
import torch
import tritonclient.grpc as grpc

from export.catalogue import CATALOGUE
from export.cli.commands import run
from export.common.errors import ExportError, PlanError, VerificationError
from export.common.release import CONTAINER, RELEASES
from export.graphs.preparation import tolerance_of
from export.pipelines.plans.building import find_builder
from export.pipelines.plans.pipeline import ACCELERATOR_NAME, PlanRequest, accelerate, build_plan
from export.pipelines.plans.profiles import profile_of
from export.pipelines.plans.python_package import PythonBuilder
from export.repository.configs.contract import parse_config
from server import TritonServer
from tests.export.pipelines.plans.models import Columns, both, columns, contents, graph_of, sums
from tests.graphs import infer
from tests.stand_ins import Plan, TensorRT


@pytest.mark.slow
@both
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_dry_run_writes_outside_and_prints_what_makes_the_plan(repository, gpu_machine, spec, precision):
    before = contents(repository)
    report = build_plan(spec, repository, PlanRequest(precision, device="t4", dry_run=True))
    assert contents(repository) == before
    assert report.outcome == "dry run"
    gpu_machine(capability="7.5")
    for command in report.commands[:-1]:  # the last one serves
        subprocess.run(command, shell=True, check=True)
    changed = set(contents(repository)) - set(before)
    assert changed == {f"{spec.name}/1/model_cc7.5.plan", f"{spec.name}/configs/tensorrt.pbtxt"}
    serve = shlex.split(report.commands[-1].replace("\\\n", ""))
    assert {CONTAINER.image, "--model-config-name=tensorrt", f"--load-model={spec.name}"} <= set(serve)
    ports = [after for option, after in itertools.pairwise(serve) if option == "--publish"]
    assert ports == [f"127.0.0.1:{port}:{port}" for port in (8000, 8001, 8002)]


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_the_commands_are_those_of_the_release(repository, release):
    report = build_plan(columns, repository, PlanRequest("fp16", device="t4", dry_run=True, release=release))
    build, *_, serve = report.commands
    assert (release.tensorrt_image in build, release.image in serve) == (True, True)
    assert f"TensorRT {release.tensorrt} of Triton {release.name}" in Path(report.config).read_text()


@pytest.mark.slow
@both
def test_a_plan_is_built_verified_and_published(repository, gpu_machine, spec):
    gpu_machine(capability="8.9")
    before = contents(repository)
    report = build_plan(spec, repository, PlanRequest("fp16"))
    assert (report.outcome, report.compute_capability) == ("published", "8.9")
    assert report.differences["plan"] < tolerance_of(spec, "fp16")
    after = contents(repository)
    assert after[f"{spec.name}/1/model_cc8.9.plan"]
    assert {name: after[name] for name in before} == before
    assert cc_of(after[f"{spec.name}/configs/tensorrt.pbtxt"]) == ["8.9"]
    other = build_plan(spec, repository, PlanRequest("fp16", device="t4", dry_run=True))
    assert cc_of(Path(other.config).read_bytes()) == ["7.5", "8.9"]


def cc_of(config: bytes) -> list[str]:
    return sorted(parse_config(config.decode(), "text").cc_model_filenames)


@pytest.mark.slow
def test_a_plan_that_answers_otherwise_is_not_published(repository, gpu_machine):
    gpu_machine(error=0.5)
    before = contents(repository)
    with pytest.raises(VerificationError, match=r"differs from PyTorch by 0\.5"):
        build_plan(columns, repository, PlanRequest("fp16"))
    assert contents(repository) == before


def test_a_build_that_fails_shows_the_command_and_what_it_said(repository, gpu_machine):
    gpu_machine(exit_code=3)
    with pytest.raises(PlanError, match=r"(?s)this ended with 3:\ndocker run.*Could not build"):
        build_plan(columns, repository, PlanRequest("fp32"))


def test_without_a_gpu_it_says_what_to_run_instead(repository):
    with pytest.raises(PlanError, match=r"--dry-run.*--accelerator tensorrt"):
        build_plan(columns, repository, PlanRequest("fp16"))


def test_a_plan_for_another_gpu_is_not_built_here(repository, gpu_machine):
    gpu_machine(capability="8.9")
    with pytest.raises(PlanError, match=r"has compute capability 8\.9, not 7\.5"):
        build_plan(columns, repository, PlanRequest("fp16", device="t4"))


def test_without_docker_and_package_both_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlanError, match=f"neither docker here.*tensorrt-cu12=={CONTAINER.tensorrt}"):
        find_builder(CONTAINER)


def test_another_tensorrt_builds_nothing_that_the_release_would_not_load(monkeypatch):
    monkeypatch.setattr("export.pipelines.plans.python_package.installed_version", lambda: "11.4.0.106")
    with pytest.raises(PlanError, match=r"tensorrt 11\.4\.0\.106 is installed, but Triton .* loads plans of"):
        find_builder(CONTAINER)


def test_the_python_package_is_asked_for_the_same(monkeypatch, tmp_path):
    trt = TensorRT()
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    (tmp_path / "model.onnx").write_bytes(b"graph")
    for kept in (b"", b"timings"):
        PythonBuilder(weak_types=True).build(tmp_path, "fp32", "8.9", profile_of(sums))
        assert trt.told["cache"] == kept
    assert (tmp_path / "model_cc8.9.plan").read_bytes() == b"plan"
    assert (trt.told["flags"], trt.told["graph"], trt.told["cleared"]) == (2, b"graph", "TF32")
    assert trt.told["total_in"] == ((1, 3), (4, 3), (4, 3))
    PythonBuilder(weak_types=False).build(tmp_path, "fp32", "8.9", profile_of(sums))
    assert trt.told["flags"] == 0
    monkeypatch.setitem(sys.modules, "tensorrt", TensorRT(errors=["no GRU", "no Scan"]))
    with pytest.raises(PlanError, match=r"(?s)does not take .*no GRU\n  no Scan"):
        PythonBuilder(weak_types=True).build(tmp_path, "fp32", "8.9", profile_of(sums))


def test_the_python_package_reads_every_tensor_in_its_own_type(monkeypatch, tmp_path):
    """int64 written into a buffer of float32 would end behind it."""
    answers = {
        "best": np.array([[2**40, 3]], np.int64),
        "found": np.array([[True]]),
        "scores": np.array([[0.5, 0.25]], np.float32),
    }
    plan = Plan({"x": np.float32, **{name: array.dtype for name, array in answers.items()}}, answers)
    monkeypatch.setitem(sys.modules, "tensorrt", plan)
    monkeypatch.setattr("export.pipelines.plans.python_package.DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", MagicMock())
    monkeypatch.setattr(torch.cuda, "current_stream", MagicMock())
    (tmp_path / "model_cc8.9.plan").touch()
    found = PythonBuilder(weak_types=True).run(tmp_path, "8.9", {"x": np.array([[1.5]], np.float64)})
    assert plan.given == {"x": np.float32([[1.5]])}
    assert {name: (array.dtype, array.tolist()) for name, array in found.items()} == {
        name: (array.dtype, array.tolist()) for name, array in answers.items()
    }


def test_other_weights_than_the_graphs_are_refused(repository, tmp_path):
    checkpoint = tmp_path / "other.pth"
    torch.save(Columns().state_dict(), checkpoint)
    with pytest.raises(PlanError, match="was made with weights 'random'"):
        build_plan(columns, repository, PlanRequest("fp32", dry_run=True, checkpoint=checkpoint))


def test_nothing_exported_is_said(tmp_path):
    with pytest.raises(ExportError, match="run `python -m export columns` first"):
        build_plan(columns, tmp_path, PlanRequest("fp32", dry_run=True))


def test_the_accelerator_needs_no_gpu_and_leaves_the_served_configuration(repository):
    before = contents(repository)
    report = accelerate(columns, repository, PlanRequest("fp16"))
    assert report.outcome == "published"
    after = contents(repository)
    assert set(after) - set(before) == {
        "columns/1/model_tensorrt_fp16.onnx",
        "columns/configs/tensorrt_accelerator.pbtxt",
    }
    assert {name: after[name] for name in before} == before
    dry = accelerate(columns, repository, PlanRequest("fp16", dry_run=True))
    assert contents(repository) == after
    for command in dry.commands[:-1]:
        subprocess.run(command, shell=True, check=True)
    assert contents(repository) == after  # the dry run's commands do what the command does
    with pytest.raises(PlanError, match="has fp32 and fp16, not int8"):
        accelerate(columns, repository, PlanRequest("int8"))


@pytest.mark.slow
def test_the_accelerators_configuration_is_served_here_without_tensorrt(repository):
    """tritonserver reads it from `configs`, and everything else as before: other models keep their own."""
    accelerate(columns, repository, PlanRequest("fp16"))
    line = np.random.default_rng(0).integers(0, 255, (2, 8, 12), np.uint8, endpoint=True)
    with TritonServer(repository, arguments=[f"--model-config-name={ACCELERATOR_NAME}"]) as server:
        assert all(model.ready for model in server.models())
        with grpc.InferenceServerClient(server.grpc_url) as client:
            config = client.get_model_config("columns").config
            assert config.default_model_filename == "model_tensorrt_fp16.onnx"
            assert not client.get_model_config("sums").config.default_model_filename.endswith("fp16.onnx")
            scores = infer(client, "columns", line=line).as_numpy("scores")
    session = onnxruntime.InferenceSession(graph_of(repository, columns).SerializeToString())
    expected = session.run(None, {"line": line})[0]
    assert scores.dtype == expected.dtype
    difference = np.abs(scores - expected).max()
    assert 0 < difference < tolerance_of(columns, "fp16")  # it is the fp16 graph


# The command


def test_the_command_prints_what_a_shell_can_run(repository, gpu_machine, capsys, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "columns", columns)
    arguments = ["columns", "--tensorrt", "--precision", "fp16", "--dry-run", "--device-profile", "t4"]
    assert run([*arguments, "--model-repository", str(repository)]) == 0
    script = capsys.readouterr().out
    gpu_machine(capability="7.5")
    building = script[: script.rindex("docker run")]
    subprocess.run(["sh", "-e", "-c", building], check=True)
    assert (repository / "columns" / "1" / "model_cc7.5.plan").is_file()


def test_the_command_says_what_to_run_without_a_gpu(repository, capsys, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "columns", columns)
    assert run(["columns", "--tensorrt", "--model-repository", str(repository)]) == 1
    assert "columns was not published: a plan is built on the GPU" in capsys.readouterr().err


def test_the_command_reports_json(repository, capsys, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "columns", columns)
    run(["columns", "--accelerator", "tensorrt", "--json", "--model-repository", str(repository)])
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["name"], report["outcome"]) == ("columns", "published")
    assert Path(report["config"]).is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tensorrt"],
        ["mobilenet_v2", "--dry-run"],
        ["mobilenet_v2", "--precision", "fp8"],
        ["mobilenet_v2", "--tensorrt", "--accelerator", "tensorrt"],
        ["mobilenet_v2", "--accelerator", "tensorrt", "--device-profile", "t4"],
        ["mobilenet_v2", "--tensorrt", "--variable-sizes", "8,16"],
        ["mobilenet_v2", "--tensorrt", "--check"],
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(arguments):
    with pytest.raises(SystemExit) as raised:
        run(arguments)
    assert raised.value.code == 2
