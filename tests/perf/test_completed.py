"""Commands of perf on models that Triton completes by itself: without a config.pbtxt, or with half of one."""

import json

import pytest
import tritonclient.grpc as grpc
from google.protobuf import text_format
from onnx import helper
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.lint import lint
from export.repository.configs.contract import parse_config
from perf.capacity.calibration import batchings, one_shape
from perf.cli import main
from perf.harness.inputs import InputsError, is_complete, read_config
from perf.harness.raw import model_facts
from perf.harness.serving import completed_config, serving
from perf.tuning.policy import Batching, Group, Policy, policy_of
from perf.tuning.text import completed_text, edited_text, write_config
from server import TritonServer
from tests.conftest import ROOT
from tests.copies import copied
from tests.graphs import FLOAT, graph, publish
from tests.lint_corpus.parts import but_queues

pytestmark = pytest.mark.slow

TANH = graph([helper.make_node("Tanh", ["x"], ["y"])], [("x", FLOAT, ["n", 8])], [("y", FLOAT, ["n", 8])])
CONFIGS = {"bare": "", "half": '# ours\nbackend: "onnxruntime"\nmax_batch_size: 8\n'}
MODELS = pytest.mark.parametrize("model", CONFIGS)
SHORT = ("--rounds=1", "--seconds=0.2")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """model_repository/ of the current folder, which the commands take by default."""
    for name, config in CONFIGS.items():
        publish(tmp_path / "model_repository", name, TANH, config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for processes that are started from there
    return tmp_path / "model_repository"


def result(path):
    return json.loads(path.read_text())


@MODELS
def test_what_is_written_and_what_is_served(repository, model):
    assert not is_complete(read_config(model, repository))
    config = completed_config(model, repository)
    assert is_complete(config)
    assert config.max_batch_size == {"bare": 4, "half": 8}[model]
    assert model_facts(repository, model)["config_pbtxt"] == CONFIGS[model]


def test_a_folder_that_is_no_model_is_none(repository):
    (repository / "notes").mkdir()
    for name in ("notes", "nothing", "../model_repository/bare", ""):
        with pytest.raises(InputsError, match=r"holds no model .* but: bare, half$"):
            read_config(name, repository)
    (repository / "half" / "config.pbtxt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputsError, match="is not a model configuration"):
        read_config("half", repository)


@MODELS
def test_run(repository, model, tmp_path):
    assert main(["run", model, "--concurrency=2", *SHORT, "--output=run.json"]) == 0
    raw = result(tmp_path / "run.json")
    assert raw["levels"][0]["throughput"] > 0
    assert raw["inputs"]["content"] == "random values"
    assert main(["report", "run.json", "--output=report"]) == 0


@MODELS
def test_inputs(repository, model, tmp_path):
    assert main(["inputs", model, "--output", str(tmp_path)]) == 0
    assert result(tmp_path / f"{model}.json")["data"][0]["x"]["shape"] == [8]


@MODELS
def test_batching(repository, model, tmp_path):
    assert main(["batching", model, "--concurrency=4", *SHORT, "--output=batching.json"]) == 0
    (levels,) = result(tmp_path / "batching.json")["rounds"]
    assert levels["with"]["throughput"] > 0
    alone = levels["without"]["models"][f"{model}_one_by_one"]
    assert alone["inferences"] == alone["executions"]


def test_throughput(repository, tmp_path):
    assert main(["throughput", "bare", *SHORT, "--output=throughput.json"]) == 0
    raw = result(tmp_path / "throughput.json")
    assert raw["sessions"] == policy_of(completed_config("bare")).groups[0].count
    assert raw["rounds"][0]["throughput"] > 0


@MODELS
def test_what_capacity_reads(repository, model, tmp_path):
    (batching,) = batchings(model, repository).values()
    assert batching.max_batch_size == {"bare": 4, "half": 8}[model]
    inputs, sent = one_shape(model, repository, tmp_path / "inputs.json")
    assert inputs.items > 1
    assert sent["answer"] == 4 * 8
    assert main(["capacity", model]) == 1  # not calibrated yet: told, without a traceback


@MODELS
def test_a_tuned_policy_makes_a_whole_config(repository, model, tmp_path):
    """Triton completes nothing beside what a policy needs, so the tensors are written, too."""
    policy = Policy((Group(3),), 1, Batching((4,), 0))
    path = repository / model / "config.pbtxt"
    with serving(model, repository) as served:
        whole = completed_text(CONFIGS[model], served.config, path)
        after = edited_text(whole, policy, path, note="for a test")
    assert after.startswith(CONFIGS[model])
    write_config(repository, model, CONFIGS[model], after)
    assert not but_queues(lint(repository))
    assert policy_of(parse_config(path.read_text(), path)) == policy
    with TritonServer(repository, log=tmp_path / "log") as server:
        assert all(one.ready for one in server.models())
        with grpc.InferenceServerClient(server.grpc_url) as client:
            found = client.get_model_config(model).config
    assert sum(group.count for group in found.instance_group) == 3
    assert found.max_batch_size == {"bare": 4, "half": 8}[model]


def test_a_config_that_lists_its_tensors_is_taken_as_it_is():
    text = (ROOT / "model_repository" / "efficientnet_lite0" / "config.pbtxt").read_text()
    assert completed_text(text, text_format.Parse("max_batch_size: 1", ModelConfig()), "") == text


@pytest.mark.long
@MODELS
def test_tune(repository, model, tmp_path):
    options = (
        "--slo-p99-ms=1000",
        "--seconds=0.1",
        "--budget-minutes=0.5",
        "--rounds=5",
        "--max-concurrency=4",
    )
    code = main(["tune", model, *options, "--output=tune.json"])
    raw = result(tmp_path / "tune.json")
    assert code == (3 if raw["undecided"] else 0)  # by what else this machine has to do
    path = repository / model / "config.pbtxt"
    assert (path.read_text() if path.is_file() else "") == (
        raw["config_after"] if raw["written"] else CONFIGS[model]
    )
    assert not but_queues(lint(repository))


@pytest.mark.long
def test_waterfall_of_an_ensemble_whose_cnn_is_completed(tmp_path, monkeypatch):
    for name in ("image_decoder", "efficientnet_lite0", "recognize_objects"):
        copied(ROOT / "model_repository" / name, tmp_path / "model_repository" / name)
    half = 'backend: "onnxruntime"\nmax_batch_size: 32\n'  # that of the ensemble
    (tmp_path / "model_repository" / "efficientnet_lite0" / "config.pbtxt").write_text(half)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert main(["waterfall", *SHORT, "--output=waterfall.json"]) == 0
    assert {row["way"] for row in result(tmp_path / "waterfall.json")["rows"]} >= {
        "in-process",
        "grpc",
        "http",
    }


def test_waterfall_of_a_model_that_is_in_no_ensemble(repository, capsys):
    for name in ("image_decoder", "efficientnet_lite0", "recognize_objects"):
        copied(ROOT / "model_repository" / name, repository / name)
    assert main(["waterfall", "--model=bare", *SHORT]) == 1
    assert "error: recognize_objects is not an ensemble of image_decoder and bare" in capsys.readouterr().err
