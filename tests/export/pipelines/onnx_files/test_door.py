"""The way of a file to a published model, and the command."""

import json
from pathlib import Path

import pytest
from onnx import helper

from export.cli.commands import run
from export.common.errors import SpecError
from export.common.packages import Package, extract
from export.pipelines.onnx_files.published import published
from tests.export.pipelines.onnx_files.files import FLOAT, Door, linear, node, tensors


def test_the_contract_is_what_the_graph_says(served: Door):
    report = served.publish(linear())
    config = served.config()
    assert (config.name, config.backend, config.max_batch_size) == ("m", "onnxruntime", 8)
    assert tensors(config.input) == [("x", 11, [8])]
    assert tensors(config.output) == [("y", 11, [4])]
    assert config.HasField("dynamic_batching")
    assert config.parameters["weights"].string_value == report.weights
    assert report.outcome == "published"
    assert "served by Triton" in report.served
    assert Path(report.path).read_bytes() == (served.folder / "m.onnx").read_bytes(), "the file itself"


def test_the_same_file_is_not_published_twice_and_the_policy_is_kept(door: Door):
    door.publish(linear())
    path = door.repository / "m" / "config.pbtxt"
    path.write_text(path.read_text().replace("count: 1", "count: 3"))
    again = door.publish(linear())
    assert (again.outcome, again.version) == ("unchanged", 1)
    other = door.publish(linear(after=[node("Relu", "a")]))
    assert (other.outcome, other.version) == ("published", 2)
    assert "count: 3" in path.read_text()


def test_labels_must_be_as_many_as_the_classes(served: Door, tmp_path: Path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\ufeffa\nb\nc\nd\n", encoding="utf-8")
    served.publish(linear(), labels=labels)
    assert served.config().output[0].label_filename == "labels.txt"
    assert (served.repository / "m" / "labels.txt").read_text() == "a\nb\nc\nd\n"
    for text in ("a\nb\nc\n", "a\n\nb\nc\n", ""):
        labels.write_text(text)
        with pytest.raises(SpecError, match=r"labels|empty line"):
            served.publish(linear(), "other", labels=labels)
    labels.write_bytes(b"\xff\n" * 4)
    with pytest.raises(SpecError, match="cannot be read"):
        served.publish(linear(), "other", labels=labels)
    assert not (served.repository / "other").exists()


def test_of_two_outputs_the_labelled_one_is_chosen(door: Door, tmp_path: Path):
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\n")
    made = linear([node("Softmax", "a"), node("Relu", "a", "r")])
    made.graph.output.append(helper.make_tensor_value_info("r", FLOAT, ["n", 4]))
    with pytest.raises(SpecError, match=r"--labels OUTPUT=FILE"):
        door.publish(made, labels=labels)
    door.publish(made, labels=labels, labelled_output="r")
    assert [output.label_filename for output in door.config().output] == ["", "labels.txt"]


def test_places_that_belong_to_others_are_left_alone(door: Door):
    with pytest.raises(SpecError, match="of the catalogue"):
        door.publish(linear(), "mobilenet_v2")
    folder = door.repository / "decoder"
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text('backend: "python"\n')
    with pytest.raises(SpecError, match="backend 'python'"):
        door.publish(linear(), "decoder")
    for name in ("../up", "a/b", ".hidden", ""):
        with pytest.raises(SpecError, match="it becomes a folder"):
            door.publish(door.file(linear()), name)


def test_the_command_lists_and_checks_models_without_a_spec(door: Door, capsys):
    path = door.file(linear(), "lin")
    repository = ["--model-repository", str(door.repository)]
    assert run([str(path), "--name", "mine", "--no-serve-check", "--json", *repository]) == 0
    assert json.loads(capsys.readouterr().out)[0]["version"] == 1
    assert published(door.repository) == ["mine"]
    assert run(["--json", *repository]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["mine"]["state"] == "of an ONNX file"
    assert run(["--check", "mine", *repository]) == 0
    config = door.repository / "mine" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [4]", "dims: [5]"))
    capsys.readouterr()
    assert run(["--check", *repository]) == 1
    assert "mine: differs" in capsys.readouterr().out
    assert run(["mine", *repository]) == 2
    assert "give FILE.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["m.onnx", "mobilenet_v2"],
        ["a.onnx", "b.onnx", "--name", "m"],
        ["mobilenet_v2", "--batch"],
        ["m.onnx", "--check"],
        ["m.onnx", "--tensorrt"],
        ["m.onnx", "--precision", "int8"],
        ["m.onnx", "--max-batch-size", "-1"],
        ["m.onnx", "--batch", "--max-batch-size", "0"],
        ["m.onnx", "--dims", "x"],
        ["m.onnx", "--dims", "x=0"],
        ["m.onnx", "--name", "a/b"],
    ],
)
def test_wrong_usage_is_told(arguments: list[str], capsys):
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_file_that_fails_does_not_stop_the_next(door: Door, capsys):
    good, bad = door.file(linear(), "good"), door.file(b"no model", "bad")
    command = [str(bad), str(good), "--no-serve-check", "--model-repository", str(door.repository)]
    assert run(command) == 1
    told = capsys.readouterr()
    assert "bad was not published" in told.err
    assert "good: version 1 published" in told.out


ONNX_ASR = Package(
    "onnx-asr==0.12.0",
    "onnx_asr-0.12.0-py3-none-any.whl",
    "5e7ceca454609819ea7833f61e2302e0c8f6ece4f8a78b66c5daba53cb51de4a",
)


PUBLIC = {
    "gigaam_v2": "features float32 [64, ?]",
    "resample_48_16": "resampled float32 [?]",
    "wespeaker": "features float32 [?, 80]",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_files_are_published(served: Door, name: str):
    path = extract(ONNX_ASR, f"onnx_asr/preprocessors/data/{name}.onnx")
    report = served.publish(path, name)
    assert report.outputs[0] == PUBLIC[name]
    assert "in one execution" in report.served
