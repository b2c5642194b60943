"""`--explain`: siblings with class activation maps, of ONNX files and of specs, published and served."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from export.cli.commands import run
from export.common.errors import ExplanationError, VerificationError
from export.pipelines.class_maps import pipeline
from export.pipelines.class_maps.checks import check_class_maps
from export.pipelines.class_maps.graph import with_class_maps
from export.repository.configs.contract import parse_config
from tests.conftest import ROOT
from tests.export.pipelines.class_maps.test_scores import ASKED, EXPLAINED, REFUSED, classifier, weights

SPEC = """
import torch
from torch import nn
from export.sources.specs.pixels import PixelClassifier
from export.sources.specs.spec import ModelSpec, Tensor


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 8, 5, stride=4)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(nn.functional.relu(self.features(x)).mean((2, 3)))


spec = ModelSpec(
    name="net",
    network=Net,
    served=PixelClassifier(mean=(127, 127, 127), std=(64, 64, 64)),
    inputs=(Tensor("image", "uint8", (32, 40, 3)),),
    outputs=(Tensor("probabilities", "float32", (4,), labels=lambda: ["a", "b", "c", "d"]),),
    max_batch_size=4,
    tolerance=1e-5,
)
"""


@pytest.fixture
def published(tmp_path, capsys):
    """Runs the command; its exit code, and what it printed as JSON, by model."""

    def published(*arguments):
        repository = f"--model-repository={tmp_path / 'models'}"
        status = run([*map(str, arguments), repository, "--json"])
        told = capsys.readouterr()
        found = json.loads(told.out or "[]")  # of --check by model already
        return status, found if isinstance(found, dict) else {one["name"]: one for one in found}, told.err

    return published


def file_of(tmp_path, tail, constants, name="m", **more):
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(classifier(tail, constants, **more).SerializeToString())
    return path


def tensors(field):
    return {tensor.name: list(tensor.dims) for tensor in field}


@pytest.mark.slow
def test_a_file_and_its_sibling_are_published_and_served(published, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\nthree\nfour\nfive\n")
    file = file_of(tmp_path, *EXPLAINED["softmax"])
    status, results, said = published(file, "--explain", f"--labels={labels}", "--max-batch-size=6")
    assert (status, list(results)) == (0, ["m", "m_cam"]), said
    assert {result["outcome"] for result in results.values()} == {"published"}
    sibling = results["m_cam"]
    assert "served by Triton" in sibling["served"]
    assert (sibling["output"], sibling["classes"]) == ("y", 5)
    assert sibling["largest_difference"] < 1e-5
    folder = tmp_path / "models" / "m_cam"
    config = parse_config((folder / "config.pbtxt").read_text(), folder)
    assert config.max_batch_size == 6
    assert tensors(config.input) == {"image": [3, 12, 12], "class_id": [1]}
    maps = {"heatmap": [12, 12], "class_map": [4, 4], "logit": [1], "bias": [1], "explained_class": [1]}
    assert tensors(config.output) == {"y": [5], **maps}
    assert config.parameters["weights"].string_value == f"{results['m']['weights']}, class maps"
    assert (folder / "labels.txt").read_text() == labels.read_text()
    assert published("--check", "m_cam")[:2] == (0, {"m_cam": []})


@pytest.mark.slow
def test_a_sibling_is_made_anew_when_its_base_is(published, tmp_path):
    explained = ("--explain", "--no-serve-check")
    file = file_of(tmp_path, *EXPLAINED["mean, gemm"])
    assert published(file, *explained)[1]["m_cam"]["outcome"] == "published"
    assert published(file, *explained)[1]["m_cam"]["outcome"] == "up to date"
    config = tmp_path / "models" / "m_cam" / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 1", "count: 3"))
    file_of(tmp_path, *EXPLAINED["gemm without a bias"])
    sibling = published(file, *explained)[1]["m_cam"]
    assert (sibling["outcome"], sibling["version"]) == ("published", 2)
    assert "count: 3" in config.read_text(), "the policy is kept"


def test_what_breaks_the_pattern_is_said_and_the_base_is_published(published, tmp_path):
    tail, constants, _ = REFUSED["a hidden layer"]
    status, results, said = published(file_of(tmp_path, tail, constants), "--explain", "--no-serve-check")
    assert status == 1
    assert (results["m"]["outcome"], results["m_cam"]["outcome"]) == ("published", "failed")
    assert "m_cam was not published: output 'y' has no class activation map: Relu '/Relu_r' feeds" in said
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["m"]


def test_without_its_base_there_is_no_sibling(published, tmp_path):
    file = tmp_path / "m.onnx"
    file.write_bytes(b"no graph")
    status, results, _ = published(file, "--explain", "--no-serve-check")
    assert (status, results["m_cam"]["error"]) == (1, "it is made of m, which was not published either")
    with pytest.raises(ExplanationError, match=r"has no version with a model\.onnx: export m first"):
        pipeline.export_class_maps("m", tmp_path / "models")


@pytest.mark.slow
def test_a_network_of_ones_own_in_pytorch(published, tmp_path):
    (tmp_path / "net.py").write_text(SPEC)
    asked = (f"{tmp_path / 'net.py'}:spec", "--random-weights", "--explain", "--no-serve-check")
    status, results, said = published(*asked)
    assert (status, list(results)) == (0, ["net", "net_cam"]), said
    assert results["net_cam"]["weights"] == "random, class maps"
    folder = tmp_path / "models" / "net_cam"
    config = parse_config((folder / "config.pbtxt").read_text(), folder)
    assert tensors(config.input) == {"image": [32, 40, 3], "class_id": [1]}
    assert tensors(config.output)["heatmap"] == [32, 40]
    assert (folder / "labels.txt").read_text() == "a\nb\nc\nd\n"


@pytest.mark.slow
def test_the_example_of_the_pages_is_explained(published, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    from my_net import MyNet

    torch.save(MyNet().state_dict(), tmp_path / "my_net.pth")
    spec, checkpoint = ROOT / "examples" / "my_net.py", tmp_path / "my_net.pth"
    status, results, said = published(f"{spec}:spec", f"--checkpoint={checkpoint}", "--explain")
    assert (status, list(results)) == (0, ["my_net", "my_net_cam"]), said
    assert "served by Triton" in results["my_net_cam"]["served"]


@pytest.mark.slow
def test_a_refusal_names_the_line_and_the_layer(published, tmp_path):
    (tmp_path / "net.py").write_text(SPEC.replace(".mean((2, 3)))", ".amax((2, 3)))"))
    asked = (f"{tmp_path / 'net.py'}:spec", "--random-weights", "--explain", "--no-serve-check")
    status, _, said = published(*asked)
    assert status == 1
    line = "net.py:15, in forward: `return self.fc(nn.functional.relu(self.features(x)).amax((2, 3)))`"
    assert f"{line}) feeds the linear layer Gemm (layer 'fc', " in said
    assert "the largest value of all places" in said
    assert "node_" not in said


def test_a_sibling_without_a_batch(published, tmp_path):
    tail, constants = EXPLAINED["pool, flatten, gemm"]
    file = file_of(tmp_path, tail, constants, batch=1, dims=(1, 5))
    status, results, said = published(file, "--explain")
    assert status == 0, said
    assert "served by Triton" in results["m_cam"]["served"]
    config = tmp_path / "models" / "m_cam" / "config.pbtxt"
    assert parse_config(config.read_text(), config).max_batch_size == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--explain",),
        ("mobilenet_v2", "--explain", "--check"),
        ("mobilenet_v2", "--explain", "--precision=int8"),
        ("mobilenet_v2", "--explain", "--tensorrt"),
    ],
)
def test_wrong_usage(published, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        published(*arguments)
    assert ended.value.code == 2
    assert "--explain" in capsys.readouterr().err


def test_a_sibling_of_the_catalogue_has_a_name_of_its_own(tmp_path, capsys):
    """Which exports its base as well."""
    shutil.copytree(ROOT / "model_repository" / "efficientnet_lite0", tmp_path / "efficientnet_lite0")
    shutil.copytree(ROOT / "model_repository" / "efficientnet_lite0_cam", tmp_path / "efficientnet_lite0_cam")
    assert run(["efficientnet_lite0_cam", "--no-serve-check", "-q", f"--model-repository={tmp_path}"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == ["efficientnet_lite0", "efficientnet_lite0_cam"]
    with pytest.raises(SystemExit):  # it is one model
        run(["efficientnet_lite0_cam", "mobilenet_v2", "--random-weights"])


@pytest.mark.parametrize("output", ["class_map", "heatmap", "logit", "bias", "explained_class", "y"])
def test_the_check_sees_a_wrong_output(output):
    """Each output in turn, one thousandth or one off."""
    base = classifier(*EXPLAINED["mean, gemm"])
    made, scores = with_class_maps(base)
    items = [{"image": weights(3, 12, 12), "class_id": np.array([number], np.int32)} for number in ASKED]
    for node in made.graph.node:
        for place, name in enumerate(node.output):
            if name == output:
                node.output[place] = f"{output}_right"
        if output == "y":
            node.input[:] = [f"{name}_right" if name == output else name for name in node.input]
    kind = np.int32 if output == "explained_class" else np.float32
    wrong = onnx.numpy_helper.from_array(np.array(1 if kind is np.int32 else 0.001, kind), "wrong")
    made.graph.initializer.append(wrong)
    made.graph.node.append(helper.make_node("Add", [f"{output}_right", "wrong"], [output]))
    with pytest.raises(VerificationError, match=f"output {output} differs from the reference"):
        check_class_maps(base, made, scores, items, True)
