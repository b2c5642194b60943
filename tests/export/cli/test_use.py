"""`python -m export use`: one command points a pipeline at another model, wherever it is served."""

import json
import shutil

import numpy as np
import pytest
import tritonclient.grpc as grpc

from client import VisionClient
from export.cli.commands import run
from export.common.errors import ConfigError
from export.lint import lint
from export.repository.configs.composition import models_named, use
from export.repository.configs.contract import parse_config
from export.sources.photographs import photographs
from perf.harness.serving import configured
from server import TritonServer
from server.environment.repository import CPU_CONFIG
from tests.conftest import ROOT
from tests.copies import copied

PIPELINE, CNN, INT8 = "recognize_objects", "efficientnet_lite0", "efficientnet_lite0_int8"
FILES = ("config.pbtxt", "configs/cpu.pbtxt")


@pytest.fixture
def repository(tmp_path):
    """Ours, without the graphs."""
    ignored = shutil.ignore_patterns("*.onnx", "__pycache__")
    shutil.copytree(ROOT / "model_repository", tmp_path / "models", symlinks=True, ignore=ignored)
    return tmp_path / "models"


def texts(repository, pipeline=PIPELINE):
    return {name: (repository / pipeline / name).read_text() for name in FILES}


def called(repository, pipeline=PIPELINE):
    return {
        name: models_named(parse_config(text, name), repository) - {"image_decoder"}
        for name, text in texts(repository, pipeline).items()
    }


def codes(repository):
    return [(finding.code, finding.file) for finding in lint(repository) if finding.model == PIPELINE]


def test_every_place_is_changed_and_the_rest_stays_to_the_byte(repository):
    before = texts(repository)
    changes = use(INT8, PIPELINE, repository)
    assert [change.file for change in changes] == [f"{PIPELINE}/{name}" for name in FILES]
    assert called(repository) == {file: {INT8} for file in FILES}
    for name, text in texts(repository).items():
        assert text == before[name].replace(f'"{CNN}"', f'"{INT8}"')
    assert use(INT8, PIPELINE, repository) == []
    use(CNN, PIPELINE, repository)
    assert texts(repository) == before


@pytest.mark.parametrize("done", FILES)
def test_half_of_it_is_found_by_the_linter_and_completed_by_the_command(repository, done):
    file = repository / PIPELINE / done
    file.write_text(file.read_text().replace(f'"{CNN}"', f'"{INT8}"'))
    found = codes(repository)
    assert ("TV118", f"{PIPELINE}/configs/cpu.pbtxt") in found
    assert {code for code, _ in found} <= {"TV118", "TV106"}
    use(INT8, PIPELINE, repository)
    assert "TV118" not in {code for code, _ in codes(repository)}
    assert called(repository) == {file: {INT8} for file in FILES}


@pytest.mark.parametrize("kept_as", ["copy", "link"])
def test_the_labels_are_those_of_the_model_that_is_called(repository, kept_as):
    (repository / INT8 / "labels.txt").write_text("".join(f"class {number}\n" for number in range(1000)))
    labels = repository / PIPELINE / "labels.txt"
    if kept_as == "link":
        labels.unlink()
        labels.symlink_to(f"../{CNN}/labels.txt")
    assert f"{PIPELINE}/labels.txt" in [change.file for change in use(INT8, PIPELINE, repository)]
    assert not labels.is_symlink()
    assert labels.read_text() == (repository / INT8 / "labels.txt").read_text()
    assert codes(repository) == []
    use(CNN, PIPELINE, repository)
    assert labels.read_text() == (repository / CNN / "labels.txt").read_text()


def test_labels_of_a_model_that_is_not_called_are_found(repository):
    (repository / CNN / "labels.txt").write_text("".join(f"class {number}\n" for number in range(1000)))
    assert ("TV118", f"{PIPELINE}/labels.txt") in codes(repository)


def test_a_link_to_the_labels_of_another_model_is_found(repository):
    link = repository / PIPELINE / "labels.txt"
    link.unlink()
    link.symlink_to("../mobilenet_v2/labels.txt")
    assert ("TV118", f"{PIPELINE}/labels.txt") in codes(repository)


def test_a_pipeline_that_names_its_model_by_a_parameter_everywhere(repository):
    shutil.copytree(repository / "text_recognizer", repository / "mine")
    config = repository / "mine" / "config.pbtxt"
    config.write_text(config.read_text().replace('"text_recognizer"', '"mine"'))
    use("mine", "read_text", repository)
    assert called(repository, "read_text") == {file: {"mine"} for file in FILES}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no_such_model", PIPELINE), r"no model 'no_such_model'.* has .*efficientnet_lite0, "),
        (("../models/mobilenet_v2", PIPELINE), "no model"),
        ((INT8, "no_such_pipeline"), r"has no config\.pbtxt; .* has .*efficientnet_lite0, "),
        ((INT8, "mobilenet_v2"), "mobilenet_v2 calls no model"),
        (
            ("text_recognizer", PIPELINE),
            "none of which has the tensors of text_recognizer: line UINT8 to ",
        ),
        ((INT8, PIPELINE, None, "mobilenet_v2"), "does not call mobilenet_v2; it calls efficientnet_lite0, "),
        (
            ("text_recognizer", PIPELINE, None, CNN),
            "cannot stand in for .* its tensors are",
        ),
        (("few_classes", PIPELINE), r"probabilities has dims \[10\], not \[1000\]"),
        (("small_batches", PIPELINE), "its max_batch_size is 8, and the pipeline passes on up to 32"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(repository, arguments, message):
    for name, old, new in (("few_classes", "[1000]", "[10]"), ("small_batches", "size: 32", "size: 8")):
        shutil.copytree(repository / CNN, repository / name)
        config = repository / name / "config.pbtxt"
        config.write_text(config.read_text().replace(f'"{CNN}"', f'"{name}"').replace(old, new, 1))
    before = texts(repository)
    model, pipeline, _, instead_of = (*arguments, None, None)[:4]
    with pytest.raises(ConfigError, match=message):
        use(model, pipeline, repository, instead_of)
    assert texts(repository) == before


def test_two_that_fit_ask_which(repository):
    config = repository / PIPELINE / "config.pbtxt"
    step = (
        'step { model_name: "mobilenet_v2" model_version: -1 input_map { key: "image" value: "image" } '
        'output_map { key: "probabilities" value: "more" } }'
    )
    config.write_text(config.read_text().replace("ensemble_scheduling {", "ensemble_scheduling { " + step))
    with pytest.raises(ConfigError, match="lite0 and mobilenet_v2; say which with --instead-of"):
        use(INT8, PIPELINE, repository)
    use(INT8, PIPELINE, repository, "mobilenet_v2")
    assert called(repository)["config.pbtxt"] == {CNN, INT8}


def test_the_command(repository, capsys):
    options = [INT8, "--in", PIPELINE, "--model-repository", str(repository)]
    (repository / INT8 / "9.old").mkdir(parents=True)
    (repository / INT8 / "9.old" / "model.onnx").touch()  # put aside, so that it is none
    assert run(["use", *options]) == 0
    printed = capsys.readouterr().out
    assert f"{PIPELINE}/configs/cpu.pbtxt: {INT8} instead of {CNN}" in printed
    assert f"note: {INT8} has no version to load yet" in printed
    assert run(["use", *options]) == 0
    assert f"{PIPELINE} calls {INT8} already" in capsys.readouterr().out
    assert run(["use", CNN, *options[1:], "--json"]) == 0
    assert {"file": f"{PIPELINE}/config.pbtxt", "instead_of": INT8, "model": CNN} in json.loads(
        capsys.readouterr().out
    )
    assert run(["use", "nothing", *options[1:]]) == 1
    assert "error: there is no model 'nothing'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        run(["use", INT8])
    assert end.value.code == 2


@pytest.mark.slow
@pytest.mark.parametrize("config", ["", CPU_CONFIG])
def test_both_servings_then_answer_as_the_sibling_does(config, server, tmp_path):
    """On a GPU or in a container, the ensemble; on a CPU, one process: each runs the model that was named."""
    for name in (PIPELINE, CNN, INT8, "image_decoder"):
        copied(ROOT / "model_repository" / name, tmp_path / "models" / name)
    use(INT8, PIPELINE, tmp_path / "models")
    photo = photographs()[0].path
    with configured(config), TritonServer(tmp_path / "models", log=tmp_path / "log") as changed:
        answer = probabilities(changed, PIPELINE, photo)
        np.testing.assert_allclose(answer, decoded(changed, INT8, photo), atol=1e-3)
        assert np.abs(answer - decoded(changed, CNN, photo)).max() > 5e-3  # they are told apart
        with VisionClient(changed.grpc_url) as client:
            assert client.classify(photo).weights.endswith(", int8")


def probabilities(server, model, photo, name="encoded_image", array=None):
    array = np.array([[photo.read_bytes()]], object) if array is None else array
    tensor = grpc.InferInput(name, list(array.shape), "BYTES" if array.dtype == object else "UINT8")
    tensor.set_data_from_numpy(array)
    with grpc.InferenceServerClient(server.grpc_url) as client:
        result = client.infer(model, [tensor])
        return result.as_numpy("probabilities" if model != "image_decoder" else "image")


def decoded(server, cnn, photo):
    return probabilities(server, cnn, photo, "image", probabilities(server, "image_decoder", photo))
