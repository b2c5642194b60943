"""The table of outputs that may be asked for classes, from a repository's configurations."""

import pytest

from server.errors import RepositoryError
from server.operations.gateway.rules.outputs import class_outputs, write
from tests.conftest import ROOT

OUTPUT = 'output { name: "y" data_type: TYPE_FP32 dims: [ 10 ] }'


def outputs_of(tmp_path, text, cpu=None):
    folder = tmp_path / "models" / "m"
    (folder / "configs").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text)
    if cpu is not None:
        (folder / "configs" / "cpu.pbtxt").write_text(cpu)
    return class_outputs(tmp_path / "models")


@pytest.mark.parametrize(
    "text",
    [
        OUTPUT,
        "output [ { name: 'y', data_type: TYPE_INT32; dims: 2 dims: 3 } ]",
        '# output { }\noutput: < dims: [1, 2] name: "y" data_type: TYPE_UINT8 label_filename: "a#b" >',
        OUTPUT + 'parameters { key: "}" value { string_value: "output { \\" } " } } max_batch_size: -1 ,;',
    ],
)
def test_fit(tmp_path, text):
    assert outputs_of(tmp_path, text) == ["m/y"]


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size: 1",
        OUTPUT.replace("FP32", "STRING"),
        OUTPUT.replace("FP32", "BOOL"),
        OUTPUT.replace("TYPE_FP32", "11"),
        OUTPUT.replace("10", "-1"),
        OUTPUT.replace("10", "5, 0"),
        OUTPUT.replace("10", ""),
        OUTPUT.replace("dims: [ 10 ]", ""),
        OUTPUT.replace('"y"', '"a b"'),
        OUTPUT.replace('"y"', '"y" name: "z"'),
        OUTPUT.replace("TYPE_FP32", "TYPE_FP32 data_type: TYPE_STRING"),
        OUTPUT.replace("output", "input"),
        "ensemble_scheduling { " + OUTPUT + " }",
        OUTPUT + " {",
        OUTPUT + " x { y",
        OUTPUT + ' "',
        OUTPUT + " \\",
        OUTPUT + "[" * 5000,
        OUTPUT + " x {" * 5000,
    ],
)
def test_not_fit(tmp_path, text):
    assert outputs_of(tmp_path, text) == []


def test_every_configuration_must_agree(tmp_path):
    assert outputs_of(tmp_path, OUTPUT + OUTPUT.replace('"y"', '"z"'), OUTPUT) == ["m/y"]


def test_of_our_models():
    table = class_outputs(ROOT / "model_repository")
    assert {"recognize_objects/probabilities", "recognize_scene/probabilities"} <= set(table)
    assert not any(key.startswith(("read_text/text", "detect_", "text_recognizer")) for key in table)


def test_written_whole(tmp_path):
    file = tmp_path / "outputs.map"
    file.write_text("old")
    outputs_of(tmp_path, OUTPUT)
    write(tmp_path / "models", file)
    assert file.read_text() == "m/y classes\n"
    with pytest.raises(RepositoryError, match="no model repository"):
        write(tmp_path / "none", file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "outputs.map"]
