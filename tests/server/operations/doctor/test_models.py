"""What the doctor says of each model of a repository."""

import pytest
from onnx import helper

from server import TritonServer
from server.operations.doctor import cli as doctor
from server.operations.doctor import gpu as doctor_gpu
from server.operations.doctor import host as doctor_host
from server.operations.doctor import models as doctor_models
from server.operations.doctor.report import GREEN, RED, YELLOW
from tests.graphs import FLOAT, graph, publish

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


@pytest.mark.slow
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
