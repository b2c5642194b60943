"""SavedModels from their folder to served answers, which equal TensorFlow's. The environment with TensorFlow
takes 2.1 GB, so that what needs it is long."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpc

from export.cli.commands import run
from export.common.errors import ConversionError, SpecError, VerificationError
from export.pipelines.savedmodels.converter import ServingSignature
from export.pipelines.savedmodels.door import SignatureRequest, chosen, opened
from export.pipelines.savedmodels.files import found_at
from export.pipelines.serving.trial import TrialServer
from server import TritonServer
from tests.graphs import infer

NATIVE = {
    "cnn": {},
    "gru_after": {"GRU": 1},
    "gru_before": {"GRU": 1},
    "gru_deep": {"GRU": 3},
    "lstm_masked": {"LSTM": 1},
}
TOLERANCE = 1e-5
RIGHT = 0.5  # of the digits that were not trained on, after four short epochs; by chance it is a tenth


def publish(path: Path, repository: Path, name: str = "m", trial: TrialServer | None = None):
    with opened(found_at(path)) as model:
        (signature,) = chosen(model.signatures, [])
        return model.publish(SignatureRequest(signature, name), repository, trial)


A = {"a": ("float32", (None, 4))}
SIGNATURES = {"serving_default": ServingSignature(A, A), "other": ServingSignature(A, A)}


def test_signatures_are_chosen():
    assert chosen(SIGNATURES, []) == ["serving_default"]
    assert chosen(SIGNATURES, ["all"]) == ["serving_default", "other"]
    assert chosen(SIGNATURES, ["other", "other"]) == ["other"]
    assert chosen({"only": SIGNATURES["other"]}, []) == ["only"]


@pytest.mark.parametrize(
    ("signatures", "wanted", "why"),
    [
        ({}, [], "no signatures"),
        (SIGNATURES, ["mine"], "it has serving_default, other"),
        ({"a": SIGNATURES["other"], "b": SIGNATURES["other"]}, [], "choose of a, b"),
    ],
)
def test_signatures_that_are_not_there(signatures, wanted: list[str], why: str):
    with pytest.raises(SpecError, match=why):
        chosen(signatures, wanted)


@pytest.fixture(scope="module")
def published(saved: Path, tmp_path_factory):
    """The digits' models in a repository, each tried on the real server; and what was told of them."""
    repository, reports = tmp_path_factory.mktemp("served") / "models", {}
    with TrialServer() as trial:
        for name in NATIVE:
            path = saved / (f"{name}.keras" if name == "cnn" else name)
            reports[name] = publish(path, repository, name, trial)
    return repository, reports


@pytest.mark.long
def test_real_digits_get_tensorflows_answers_from_the_server(saved: Path, published):
    repository, reports = published
    with TritonServer(repository) as server, grpc.InferenceServerClient(server.grpc_url) as client:
        for name in NATIVE:
            with np.load(saved / f"{name}.npz") as file:
                inputs, answers, labels = file["inputs"], file["answers"], file["labels"]
            key = "image" if name == "cnn" else "rows"
            served = np.concatenate(
                [infer(client, name, **{key: part}).as_numpy("output_0") for part in np.split(inputs, 4)]
            )
            assert np.abs(served - answers).max() < TOLERANCE, name
            assert (served.argmax(-1) == labels).mean() > RIGHT, name
            assert reports[name].tensorflow_items > 0
            assert reports[name].tensorflow_difference < TOLERANCE


@pytest.mark.long
@pytest.mark.parametrize("name", NATIVE)
def test_the_served_graph_has_nodes_and_no_loop(published, name: str):
    repository, reports = published
    counted = Counter(node.op_type for node in onnx.load(repository / name / "1" / "model.onnx").graph.node)
    assert counted["Loop"] == 0
    assert {op: counted[op] for op in NATIVE[name]} == NATIVE[name]
    assert len(reports[name].native) == sum(NATIVE[name].values())
    assert not reports[name].loops
    assert "served by Triton" in reports[name].served


@pytest.mark.long
def test_given_samples_say_that_no_negative_number_comes(saved: Path, tmp_path: Path):
    np.savez(tmp_path / "samples.npz", n=np.arange(32, dtype=np.int32).reshape(8, 4))
    command = [
        "savedmodel",
        str(saved / "hot"),
        "--samples",
        str(tmp_path / "samples.npz"),
        "--no-serve-check",
    ]
    assert run([*command, "--model-repository", str(tmp_path / "models")]) == 0


@pytest.mark.long
def test_all_signatures_from_the_command_and_what_fails_stops_no_other(saved: Path, tmp_path: Path, capsys):
    repository = tmp_path / "models"
    command = ["savedmodel", str(saved / "two"), "--name", "m", "--signature", "all", "--no-serve-check"]
    assert run([*command, "--version", "7", "--json", "--model-repository", str(repository)]) == 1
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert "is text" in told["m_examples"]["error"]
    assert told["m"]["version"] == 7
    assert told["m"]["inputs"] == ["a float32 [4]"]
    assert sorted(told["m"]["outputs"]) == ["scores float32 [3]", "sum float32 []"]
    assert told["m"]["weights"].startswith("savedmodel ")
    assert [path.name for path in repository.iterdir()] == ["m"]
    assert run(["--check", "m", "--model-repository", str(repository)]) == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        ("lambda.keras", ConversionError, "--allow-code"),
        ("python", ConversionError, r"EagerPyFunc.*--allow-code"),
        ("svd", ConversionError, r"Svd .*no counterpart in ONNX"),
        ("noise", VerificationError, "differs from TensorFlow's"),
        ("floored", VerificationError, r"for negative numbers in n.*\n?.*--samples"),
        ("hot", VerificationError, "for negative numbers in n"),
        ("none", SpecError, "no signatures"),
    ],
)
def test_what_cannot_be_served_is_refused(saved: Path, tmp_path: Path, name: str, error: type, why: str):
    with pytest.raises(error, match=why):
        publish(saved / name, tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("tf1", ["x float32 [4]"]),
        ("unused", ["a float32 [4]", "unused float32 [2]"]),
        ("summed", ["n int32 [4]"]),  # of negative integers, too
        ("rows", ["n int32 [4]"]),  # TensorFlow itself refuses them
        ("hyphen", ["my-input float32 [4]"]),  # and a gelu, whose Erfc ONNX lacks
        ("grouped", ["my.input float32 [8, 8, 4]"]),  # a function that XLA compiles
    ],
)
def test_what_is_odd_is_served(saved: Path, tmp_path: Path, name: str, inputs: list[str]):
    """A SavedModel of TensorFlow 1; an input that nothing uses, which clients send all the same."""
    report = publish(saved / name, tmp_path / "models")
    assert sorted(report.inputs) == inputs
    assert report.tensorflow_difference < TOLERANCE
