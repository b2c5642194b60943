"""Lighter siblings: INT8 by calibration, measured against FP32 and refused if it is not good enough; FP16."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

from client import VisionClient
from export import Evaluation, ModelSpec, PixelClassifier, Quantization, Tensor
from export.cli.commands import run
from export.common.errors import SpecError, SpeedError
from export.graphs.conversion import convert, stack
from export.pipelines.quantization.agreement import Speed
from export.pipelines.quantization.equalisation import equalise
from export.pipelines.quantization.layers import LayerGraph
from export.pipelines.quantization.pipeline import LighterRequest, export_lighter
from export.pipelines.quantization.quantiser import quantise
from export.pipelines.quantization.ranges import observe
from export.pipelines.quantization.search import find_float_layers
from export.pipelines.quantization.sessions import answers, session
from export.repository.configs.contract import parse_config
from export.sources.photographs import photographs
from export.sources.samples import photograph_pixels

SIZE, CLASSES = 16, 6


def pictures(seed, count=40, level=255):
    """Noise around a colour of its own: UINT8 [16, 16, 3] each."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, level + 1, (count, 1, 1, 3))
    noise = random.integers(-30, 31, (count, SIZE, SIZE, 3))
    return [(picture,) for picture in np.clip(colours + noise, 0, level).astype(np.uint8)]


def telling(network):
    """Give the network a head that tells pictures apart; an untrained one answers much the same to all."""
    with torch.no_grad():
        planes = torch.from_numpy(stack(pictures(9))[0]).permute(0, 3, 1, 2)
        features = network.features((planes - 110) / 60)
        weight = 2 * torch.randn(CLASSES, features.shape[1]) / (features.std(0) + 1e-3)
        network.head.weight.copy_(weight)
        network.head.bias.copy_(-weight @ features.mean(0))


class Block(nn.Module):
    """An inverted residual of 4 channels, as the catalogue's networks have them."""

    def __init__(self):
        super().__init__()
        self.expand, self.filter = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.project = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = nn.functional.relu6(self.filter(nn.functional.relu6(self.expand(x))))
        return x + self.project(y)


class Tiny(nn.Module):
    """FP32 [batch, 3, 16, 16] -> logits FP32 [batch, 6]."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.blocks = nn.Sequential(Block(), Block())
        self.last, self.head = nn.Conv2d(4, 16, 1), nn.Linear(16, CLASSES)
        with torch.no_grad():
            widths = torch.tensor([1.0, 30.0, 0.1, 3.0])
            self.stem.weight *= widths.reshape(4, 1, 1, 1)
            self.blocks[0].project.weight *= widths.reshape(4, 1, 1, 1)
        telling(self)

    def features(self, x):
        return nn.functional.relu6(self.last(self.blocks(self.stem(x)))).mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))


tiny = ModelSpec(
    name="tiny",
    network=Tiny,
    served=PixelClassifier(mean=(120.0, 110.0, 100.0), std=(60.0, 60.0, 60.0)),
    inputs=(Tensor("image", "uint8", (SIZE, SIZE, 3)),),
    outputs=(
        Tensor("probabilities", "float32", (CLASSES,), labels=lambda: [f"class {i}" for i in range(CLASSES)]),
    ),
    max_batch_size=4,
    tolerance=1e-4,
    tolerances={"fp16": 0.02},
    samples=lambda: pictures(0),
    quantization=Quantization(lambda: pictures(1), lambda: Evaluation(pictures(2))),
)
# Calibrated in the dark, its ranges fit nothing else.
blind = dataclasses.replace(
    tiny, quantization=Quantization(lambda: pictures(1, level=3), lambda: Evaluation(pictures(2)), ())
)


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    model = convert(tiny, tiny.served(Tiny()).eval(), pictures(0), {}).graph
    return onnx.load_from_string(model)


@pytest.fixture
def random_tiny(tmp_path):
    """INT8 pays for larger networks only: this one is slower, on every processor."""
    given = {"max_drop": 10.0, "allow_slower": True}
    return lambda spec=tiny, **request: export_lighter(
        spec, tmp_path, LighterRequest("int8", random_weights=True, **{**given, **request})
    )


def observed(model):
    graph = LayerGraph(model)
    return graph, observe(graph, graph.activations, pictures(1), lambda step: None)


def weights_by_name(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_equalising_changes_no_answer_and_makes_channels_equally_wide(graph):
    equalised, ranges = observed(graph)
    after = equalise(equalised, ranges)
    assert np.allclose(
        answers(session(equalised.model), pictures(3)), answers(session(graph), pictures(3)), atol=1e-5
    )
    additions = [node.output[0] for node in equalised.nodes if node.op_type == "Add"]
    assert additions
    before, then = (found[additions[0]].largest for found in (ranges, after))
    assert before.max() / before.min() > 4
    assert then.max() / then.min() < before.max() / before.min() / 2
    again = observe(equalised, additions, pictures(1), lambda step: None)
    assert np.allclose(again[additions[0]].largest, then, rtol=1e-3)


def test_no_two_neighbouring_weights_overflow_16_bits(graph):
    source, ranges = observed(graph)
    quantised = weights_by_name(quantise(source, ranges))
    checked = 0
    for layer in source.layers.values():
        weights = quantised[f"{layer.name}_quantized"].astype(np.int32)
        assert weights.dtype == np.int32
        if not layer.depthwise:
            rows = np.moveaxis(weights, 1, -1).reshape(len(weights), -1)
            rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
            assert np.abs(rows[:, 0::2] + rows[:, 1::2]).max() <= 128
            checked += 1
    assert checked == 7


def test_layers_in_float_keep_their_weights(graph):
    source, ranges = observed(graph)
    kept = list(source.layers)[:2]
    model = quantise(source, ranges, kept)
    names = weights_by_name(model)
    assert all(name in names for name in kept)
    assert sum(name.endswith("_quantized") for name in names) >= len(source.layers) - 2
    assert np.isfinite(answers(session(model), pictures(3))).all()


class Outlier(nn.Module):
    """One channel is much larger than the others and is not used: its tensor must stay in float."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, CLASSES)
        with torch.no_grad():
            self.first.weight[0] = 3e3
            self.second.weight[:, 0] = 0
        telling(self)

    def features(self, x):
        return self.second(self.first(x).relu()).mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))


def test_the_search_finds_the_layers_that_int8_breaks():
    torch.manual_seed(0)
    spec = dataclasses.replace(tiny, network=Outlier)
    model = onnx.load_from_string(convert(spec, spec.served(Outlier()).eval(), pictures(0), {}).graph)
    source, ranges = observed(model)
    fp32 = answers(session(model), pictures(1))
    shown = []
    found = find_float_layers(source, ranges, pictures(1), fp32, shown.append)
    assert any("first.weight" in name for name in found)
    assert any("second.weight" in name for name in found)
    assert not any("head.weight" in name for name in found)
    assert "layer 3 of 3 alone in INT8" in shown


@pytest.mark.slow
def test_a_sibling_is_published_with_the_same_tensors_and_says_its_precision(random_tiny, tmp_path):
    report = random_tiny()
    assert (report.name, report.outcome, report.version) == ("tiny_int8", "published", 1)
    assert report.items_compared == 40
    assert report.agreement >= 0.9
    assert report.layers == 9
    assert report.speed_ratio > 0
    configs = [
        parse_config((tmp_path / name / "config.pbtxt").read_text(), name) for name in ("tiny", "tiny_int8")
    ]
    assert configs[0].input == configs[1].input
    assert configs[0].output == configs[1].output
    assert [config.parameters["weights"].string_value for config in configs] == ["random", "random, int8"]
    graph = onnx.load(report.path)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.graph.node}
    running = onnxruntime.InferenceSession(report.path)
    for count in (1, 3):
        (probabilities,) = running.run(None, {"image": stack(pictures(4, count))[0]})
        assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert random_tiny().outcome == "unchanged"


@pytest.mark.slow
def test_a_sibling_that_is_slower_is_refused_unless_it_is_allowed(random_tiny, tmp_path):
    with pytest.raises(SpeedError, match=r"INT8 has 0\.\d\d times FP32's speed here .*--allow-slower"):
        random_tiny(allow_slower=False)
    assert not (tmp_path / "tiny_int8").exists()
    assert random_tiny().speed_ratio < 1


@pytest.mark.parametrize(
    ("ratios", "slower"),
    [
        ((1.8, 1.9, 1.7, 1.8, 1.8, 1.6, 1.8, 1.9, 1.8), False),
        ((1.8, 0.4, 1.7, 0.6, 0.5, 0.9, 1.8, 0.8, 1.8), False),  # a busy machine, median 0.9
        ((0.97, 1.02, 0.99, 1.01, 0.98, 1.03, 0.96, 1.0, 1.0), False),  # as fast
        ((0.3, 0.33, 0.31, 0.32, 0.3, 0.32, 0.35, 0.3, 0.29), True),
        ((0.3, 1.4, 0.31, 0.32, 1.2, 0.32, 0.35, 0.3, 0.29), True),  # a busy machine
    ],
)
def test_a_busy_machine_makes_no_sibling_slow_or_fast(ratios, slower):
    assert Speed(ratios).is_slower is slower


@pytest.mark.slow
def test_a_folder_of_pictures_calibrates_a_spec_that_has_none(random_tiny, tmp_path):
    bare = dataclasses.replace(tiny, quantization=None)
    with pytest.raises(SpecError, match=r"tiny has no pictures to calibrate with.*--calibration FOLDER"):
        random_tiny(bare)
    folder = tmp_path / "pictures with a space"
    folder.mkdir()
    with pytest.raises(SpecError, match="holds no pictures"):
        random_tiny(bare, calibration=folder)
    for number, (picture,) in enumerate(pictures(5, 20)):
        Image.fromarray(picture).resize((64, 48)).save(folder / f"{number}.png")
    report = random_tiny(bare, calibration=folder)
    assert report.outcome == "published"
    assert report.items_compared == 56  # every fifth of 280 crops


def test_unknown_layers_in_float_are_named(random_tiny):
    wrong = dataclasses.replace(tiny.quantization, float_layers=("network.nowhere.weight",))
    with pytest.raises(SpecError, match=r"no layers network\.nowhere\.weight.*--search"):
        random_tiny(dataclasses.replace(tiny, quantization=wrong))


def test_fp16_is_within_its_tolerance_and_keeps_the_tensors_types(tmp_path):
    report = export_lighter(tiny, tmp_path, LighterRequest("fp16", random_weights=True))
    assert (report.name, report.outcome) == ("tiny_fp16", "published")
    assert 0 < report.largest_difference < 0.02
    graph = onnx.load(report.path)
    types = [value.type.tensor_type.elem_type for value in (*graph.graph.input, *graph.graph.output)]
    assert types == [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in graph.graph.initializer}


@pytest.mark.slow
def test_the_command_refuses_a_large_drop_and_publishes_nothing(tmp_path, capsys):
    target = f"{Path(__file__)}:blind"
    sys.path.append(str(Path(__file__).parents[4]))
    arguments = [
        target,
        "--precision",
        "int8",
        "--random-weights",
        "--model-repository",
        str(tmp_path / "models"),
        "--allow-slower",
    ]
    assert run([*arguments, "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)
    assert result["outcome"] == "failed"
    assert re.search(r"agrees with FP32 on \d+ of 40 samples.*--max-drop is 1\b", result["error"])
    assert not (tmp_path / "models" / "tiny_int8").exists()
    assert (tmp_path / "models" / "tiny" / "1" / "model.onnx").is_file()
    assert run([*arguments, "--max-drop", "100", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["name"], result["precision"], result["outcome"]) == ("tiny_int8", "int8", "published")
    assert result["drop"] > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobilenet_v2", "--precision", "int4"], "invalid choice: 'int4'"),
        (
            ["mobilenet_v2", "--precision", "fp8"],
            "goes with --tensorrt or --accelerator; without them choose of int8",
        ),
        (["mobilenet_v2", "--max-drop", "2"], "go with --precision int8"),
        (["mobilenet_v2", "--precision", "fp16", "--search"], "go with --precision int8"),
        (["mobilenet_v2", "--precision", "int8", "--max-drop", "200"], "percentage points, 0 to 100"),
        (["--precision", "int8"], "goes with models, or --all"),
        (
            ["mobilenet_v2", "--precision", "fp16", "--allow-slower"],
            "--allow-slower goes with --precision int8",
        ),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["efficientnet_lite0"])
def test_the_served_sibling_answers_like_fp32(server, name):
    labelled = [photo for photo in photographs() if photo.name.startswith("imagenet_")]
    with VisionClient(server.grpc_url) as vision:
        pixels = [image for (image,) in photograph_pixels()[: len(labelled)]]
        fp32, int8 = (
            [vision.classify(image, model=model).best.index for image in pixels]
            for model in (name, f"{name}_int8")
        )
    agreed = sum(map(int.__eq__, fp32, int8))
    assert agreed >= len(labelled) - 1
    right = [
        sum(index == photo.class_index for index, photo in zip(found, labelled, strict=True))
        for found in (fp32, int8)
    ]
    assert right[1] >= right[0] - 1
