"""TensorFlow Serving's config files, the configs written of them, and what is said of each field."""

import json
import shlex
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelQueuePolicy

from export.cli.commands import run
from export.pipelines.onnx_files.door import FileRequest, export_file
from export.repository.configs.contract import parse_config
from export.repository.tfserving.schema import BATCHING, POOL
from export.repository.tfserving.translation import batching_fields
from tests.export.pipelines.onnx_files.files import linear, node

MODELS_CONFIG = """\
model_config_list: {  # as TensorFlow Serving's own documentation writes it
  config: {
    name: "digits", base_path: "BASE", model_platform: "tensorflow"
    model_version_policy: { specific: { versions: 12, versions: 3 } }
    version_labels: { key: "stable", value: 3 }
    version_labels: { key: "canary", value: 12 }
    logging_config { sampling_config { sampling_rate: 0.1 } }
  }
  config: { name: "newest", base_path: "BASE", model_type: TENSORFLOW }
  config: { name: "some", base_path: "BASE/", model_version_policy { latest { num_versions: 2 } } }
  config: { name: "each", base_path: "BASE", model_version_policy { all {} } }
  config: { name: "far", base_path: "gs://bucket/far model" }
}
"""
BATCHING_CONFIG = """\
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 4 }
thread_pool_name { value: "pool" }
allowed_batch_sizes: [8, 32]
pad_variable_length_inputs: true
"""
MONITORING_CONFIG = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for version in (3, 12, 7):
        (tmp_path / "base" / str(version)).mkdir(parents=True)
    (tmp_path / "models.config").write_text(MODELS_CONFIG.replace("BASE", str(tmp_path / "base")))
    (tmp_path / "batching.config").write_text(BATCHING_CONFIG)
    (tmp_path / "monitoring.config").write_text(MONITORING_CONFIG)
    return tmp_path


def written(folder: Path, *more: str) -> int:
    return run(["from-tfserving", str(folder / "models.config"), *more, "-o", str(folder / "models")])


def config(folder: Path, name: str) -> ModelConfig:
    path = folder / "models" / name / "config.pbtxt"
    return parse_config(path.read_text(), path)


def test_policies_are_theirs(folder: Path, capsys):
    assert written(folder, str(folder / "batching.config"), "--json") == 0
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)["models"]}
    assert list(told) == ["digits", "newest", "some", "each", "far"]
    digits = config(folder, "digits")
    assert (digits.name, digits.backend, digits.max_batch_size) == ("digits", "onnxruntime", 32)
    assert list(digits.version_policy.specific.versions) == [12, 3]
    batching = digits.dynamic_batching
    assert list(batching.preferred_batch_size) == [8, 32]
    assert batching.max_queue_delay_microseconds == 2000
    assert batching.default_queue_policy.max_queue_size == 3200
    assert batching.default_queue_policy.timeout_action == ModelQueuePolicy.REJECT
    assert len(digits.instance_group) == 2
    assert not config(folder, "newest").HasField("version_policy")
    assert config(folder, "some").version_policy.latest.num_versions == 2
    assert config(folder, "each").version_policy.HasField("all")


def test_commands_keep_the_numbers_of_versions(folder: Path, capsys):
    written(folder, str(folder / "batching.config"), "--json")
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)["models"]}

    def versions(name: str) -> list[tuple[str, str]]:
        words = [shlex.split(command) for command in told[name]["commands"]]
        assert all(one[:4] == ["python", "-m", "export", "savedmodel"] for one in words)
        assert all(one[one.index("--max-batch-size") + 1] == "32" for one in words)
        return [(one[4], one[one.index("--version") + 1] if "--version" in one else "") for one in words]

    base = str(folder / "base")
    assert versions("digits") == [(f"{base}/3", "3"), (f"{base}/12", "12")]
    assert versions("newest") == [(f"{base}/12", "12")]
    assert versions("some") == [(f"{base}/7", "7"), (f"{base}/12", "12")]
    assert [number for _, number in versions("each")] == ["3", "7", "12"]
    assert versions("far") == [("gs://bucket/far model", "")]


def test_every_field_is_accounted_for(folder: Path, capsys):
    monitoring = str(folder / "monitoring.config")
    written(folder, str(folder / "batching.config"), "--monitoring", monitoring, "--json")
    told = json.loads(capsys.readouterr().out)
    (digits,) = (one for one in told["models"] if one["name"] == "digits")
    assert {one["name"] for one in digits["fields"]} == {
        *("name", "base_path", "model_platform", "model_version_policy", "version_labels", "logging_config")
    }
    labels = next(one for one in digits["fields"] if one["name"] == "version_labels")
    assert labels["value"] == "stable: 3, canary: 12"
    shared = {one["name"]: one["became"] for one in told["shared"]}
    assert {"max_batch_size", "prometheus_config.path"} < set(shared)
    assert shared["num_batch_threads"].startswith("nothing")


def test_every_field_of_batching_that_can_be_read_has_its_words(folder: Path):
    """So that a field that is added to the schema cannot be left out."""
    from google.protobuf import message_factory

    message = message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"tensorflow.serving.{BATCHING}"))()
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            getattr(message, field.name).append(8)
        elif field.message_type:
            getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, True)
    assert len(batching_fields(message, folder)) == len(message.DESCRIPTOR.fields)


def test_for_people_it_is_a_table_and_commands(folder: Path, capsys):
    assert written(folder) == 0
    out = capsys.readouterr().out
    assert "5 configs written" in out
    assert "python -m export savedmodel" in out
    assert "requests are batched all the same" in " ".join(out.split())


def test_the_export_that_follows_keeps_the_policy(folder: Path):
    written(folder, str(folder / "batching.config"))
    policy = config(folder, "digits")
    file = folder / "digits.onnx"
    for version in (3, 12):
        file.write_bytes(linear(after=[node("Relu", "a")] if version == 12 else ()).SerializeToString())
        request = FileRequest(file, "digits", max_batch_size=32, version=version)
        assert export_file(request, folder / "models").version == version
    exported = config(folder, "digits")
    assert [one.name for one in exported.input] == ["x"]
    for field in ("version_policy", "dynamic_batching", "instance_group", "max_batch_size"):
        assert getattr(exported, field) == getattr(policy, field)


def test_configs_that_are_there_stay(folder: Path, capsys):
    assert written(folder) == 0
    path = folder / "models" / "some" / "config.pbtxt"
    path.write_text("# mine\n")
    assert written(folder) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert path.read_text() == "# mine\n"
    assert written(folder, "--force") == 0
    assert "latest" in path.read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "lists no models"),
        ("model_config_list { config { name: } }", "line 1"),
        ('model_config_list { config { nme: "a" } }', "nme"),
        ('model_config_list { config { name: "../up" base_path: "b" } }', "becomes a folder"),
        ('model_config_list { config { name: "" base_path: "b" } }', "becomes a folder"),
        ('model_config_list { config { name: "a" } config { name: "a" } }', "more than once"),
        ('model_config_list { config { name: "a" } }', "a has no base_path"),
        ('model_config_list { config { name: "a" model_platform: "sklearn" } }', "'sklearn'"),
        (
            'model_config_list { config { name: "a" base_path: "b" '
            "model_version_policy { all {} latest {} } } }",
            "one of them",
        ),
        (
            'model_config_list { config { name: "a" base_path: "b" '
            "model_version_policy { specific { versions: 2 versions: -1 } } } }",
            "has version -1",
        ),
        ('custom_model_config { type_url: "x" }', "code of its own"),
    ],
)
def test_bad_model_configs_are_refused(folder: Path, text: str, why: str, capsys):
    (folder / "models.config").write_text(text)
    assert written(folder) == 1
    assert why in capsys.readouterr().err
    assert not (folder / "models").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("max_batch_size: 32", "line 1"),
        ("max_batch_size { value: -1 }", "-1 is not a size"),
        ("batch_timeout_micros { value: 9999999999 }", "9999999999 is not a size or time"),
        ("max_batch_size { value: 2000000 } max_enqueued_batches { value: 2000000 }", "is not a size"),
        ("max_batch_size { value: 32 } allowed_batch_sizes: [8, 16]", "to end with max_batch_size, 32"),
        ("allowed_batch_sizes: [8, 4]", "have to rise"),
    ],
)
def test_bad_batching_configs_are_refused(folder: Path, text: str, why: str, capsys):
    (folder / "batching.config").write_text(text)
    assert written(folder, str(folder / "batching.config")) == 1
    assert why in capsys.readouterr().err
    assert not (folder / "models").exists()


def test_a_file_that_is_not_there(folder: Path, capsys):
    assert written(folder, str(folder / "none.config")) == 1
    assert "cannot be read" in capsys.readouterr().err
