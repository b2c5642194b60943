"""Conversion and verification on networks that are small, or wrong on purpose."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export import ModelSpec, Tensor
from export.common import release
from export.common.errors import CheckpointError, ConversionError, ExportError, SpecError, VerificationError
from export.graphs.checks.verification import verify
from export.graphs.conversion import convert
from export.graphs.facts import facts_of
from export.pipelines.pytorch import export_model
from export.repository.publish import newest_version
from export.sources.samples import random_samples
from export.sources.weights import Weights, choose_weights, filled_network


class Small(nn.Module):
    """[batch, 4] -> [batch, 3]."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class OtherWhenExported(Small):
    """A network that is not what it is trained as: the fault that verification is there to find."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y * 1.01 if torch.compiler.is_exporting() else y


class WrongFromBatch7(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y if torch.compiler.is_exporting() or len(x) < 7 else y + 1


class FixedBatch(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).reshape(2, 3)


class OneIsLost(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([super().forward(x).squeeze(), x[:, :1]], 1)


class PairsOnly(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).reshape(-1, 2 * 3).softmax(1).reshape(-1, 3)


class Even(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            super().forward(x) if len(x) == 1 else super().forward(x).reshape(len(x) // 2, 2, 3).flatten(0, 1)
        )


class Branching(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y if x.sum() > 0 else -y


class Constant(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 0 + 1


class NotANumber(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * torch.inf * 0


class LineReader(nn.Module):
    """UINT8 [batch, 32, width] -> [batch, width / 8, 5]: scores along the width, as text models have."""

    def __init__(self):
        super().__init__()
        self.strides = nn.Conv2d(1, 6, kernel_size=(32, 8), stride=(32, 8))
        self.head = nn.Linear(6, 5)

    def forward(self, line: torch.Tensor) -> torch.Tensor:
        columns = self.strides(line.unsqueeze(1).to(torch.float32) / 255).squeeze(2)
        return self.head(columns.transpose(1, 2)).log_softmax(-1)


def small_spec(network=Small, **changes) -> ModelSpec:
    spec = ModelSpec(
        name="small",
        network=network,
        served=lambda network: network,
        inputs=(Tensor("x", "float32", (4,)),),
        outputs=(Tensor("y", "float32", (3,)),),
        max_batch_size=8,
        tolerance=1e-5,
    )
    return dataclasses.replace(spec, **changes)


def converted(spec: ModelSpec) -> tuple[bytes, nn.Module, list]:
    served = spec.served(filled_network(spec, Weights("random"))).eval()
    samples = random_samples(spec.inputs)
    return convert(spec, served, samples, {"weights": "random"}).graph, served, samples


def changed(graph: bytes, change) -> bytes:
    model = onnx.load_from_string(graph)
    change(model)
    return model.SerializeToString()


@pytest.mark.slow
def test_the_graph_is_dynamic_tidy_and_the_same_every_time():
    spec = small_spec()
    graph, served, samples = converted(spec)
    model = onnx.load_from_string(graph)
    facts = facts_of(model)
    assert [str(tensor) for tensor in (*facts.inputs, *facts.outputs)] == [
        "x float32 [?, 4]",
        "y float32 [?, 3]",
    ]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert facts.opset <= release.MAX_OPSET
    assert facts.ir_version <= release.MAX_IR_VERSION
    assert facts.metadata == {"weights": "random"}
    assert str(Path(__file__).parent).encode() not in graph  # no paths of this machine
    assert b"site-packages" not in graph
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert converted(spec)[0] == graph
    result = verify(spec, graph, served, samples)
    assert result.items == 1 + 2 + 7 + 8
    assert result.largest_difference <= 1e-6
    assert result.top1_agreement is None


@pytest.mark.slow
def test_a_variable_width_is_verified_at_several_widths():
    spec = small_spec(
        LineReader,
        inputs=(Tensor("line", "uint8", (32, -1)),),
        outputs=(Tensor("log_probs", "float32", (-1, 5)),),
    )
    graph, served, samples = converted(spec)
    assert len({line.shape for (line,) in samples}) == 3
    assert str(facts_of(onnx.load_from_string(graph)).outputs[0]) == "log_probs float32 [?, ?, 5]"
    assert verify(spec, graph, served, samples).items == 3 * (1 + 2 + 7 + 8)


def test_a_network_that_cannot_be_traced_is_refused():
    with pytest.raises(ConversionError, match="cannot export small with a dynamic batch") as raised:
        converted(small_spec(Branching))
    assert "no `if` on values" in str(raised.value)


def test_a_batch_fixed_in_the_network_is_refused(tmp_path: Path):
    """The exporter's example, of 2, is what the network is right for."""
    for network, count in ((FixedBatch, 1), (OneIsLost, 1), (PairsOnly, 1), (Even, 3)):
        with pytest.raises(SpecError, match=f"answers a batch of 2 and fails on one of {count}") as raised:
            export_model(small_spec(network), tmp_path, random_weights=True)
        assert "test_conversion.py:" in str(raised.value)
        assert "x.shape[0] or -1" in str(raised.value)


def test_a_batch_fixed_in_the_graph_is_refused():
    graph, served, samples = converted(small_spec())

    def fix(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(VerificationError) as raised:
        verify(small_spec(), changed(graph, fix), served, samples)
    text = str(raised.value)
    assert "the graph's input x float32 [1, 4] is not in the spec" in text
    assert "running fails at batch 2" in text
    assert "running fails at batch 7" in text


def test_versions_that_the_release_does_not_accept_are_refused_together():
    graph, served, samples = converted(small_spec())

    def raise_versions(model: onnx.ModelProto) -> None:
        model.ir_version = release.MAX_IR_VERSION + 1
        model.opset_import[0].version = release.MAX_OPSET + 1

    with pytest.raises(VerificationError) as raised:
        verify(small_spec(), changed(graph, raise_versions), served, samples)
    assert len(raised.value.failures) == 2
    assert f"opset {release.MAX_OPSET + 1}" in raised.value.failures[0]
    assert f"IR version {release.MAX_IR_VERSION + 1}" in raised.value.failures[1]


def test_a_spec_that_says_something_else_is_refused():
    graph, served, samples = converted(small_spec())
    other = small_spec(outputs=(Tensor("y", "float32", (4,)),))
    with pytest.raises(VerificationError) as raised:
        verify(other, graph, served, samples)
    text = str(raised.value)
    assert "the graph's output y float32 [?, 3] is not in the spec" in text
    assert "the spec's output y float32 [?, 4] is not in the graph" in text
    assert "in the spec float32 (7, 4)" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "changes", "messages"),
    [
        (OtherWhenExported, {}, ["differs from PyTorch by", "the tolerance is 1e-05"]),
        (WrongFromBatch7, {}, ["at batch 7", "at batch 8"]),
        (NotANumber, {}, ["differs from PyTorch by nan"]),
        (Constant, {}, ["almost the same for all samples"]),
        (Small, {"tolerance": 100.0}, ["a tolerance of 100 proves nothing"]),
    ],
)
def test_a_failed_verification_publishes_nothing(tmp_path: Path, network, changes, messages):
    export_model(small_spec(), tmp_path, random_weights=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VerificationError) as raised:
        export_model(small_spec(network, **changes), tmp_path, random_weights=True)
    for message in messages:
        assert message in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert newest_version(tmp_path / "small") == 1


def test_only_what_fails_is_reported(tmp_path: Path):
    with pytest.raises(VerificationError) as raised:
        export_model(small_spec(WrongFromBatch7), tmp_path, random_weights=True)
    assert len(raised.value.failures) == 2  # batches 1 and 2 are right
    assert not (tmp_path / "small").exists()


def test_labels_that_do_not_fit_the_classes_are_refused(tmp_path: Path):
    spec = small_spec(outputs=(Tensor("y", "float32", (3,), labels=lambda: ["a", "b"]),))
    with pytest.raises(ExportError, match=r"dims \(3,\) and 2 labels"):
        export_model(spec, tmp_path, random_weights=True)


@pytest.mark.slow
def test_random_weights_are_marked_and_the_same_every_time(tmp_path: Path):
    first = export_model(small_spec(), tmp_path, random_weights=True)
    again = export_model(small_spec(), tmp_path, random_weights=True)
    assert (first.outcome, again.outcome, again.version) == ("published", "unchanged", 1)
    assert first.weights == "random"
    assert 'string_value: "random"' in (tmp_path / "small" / "config.pbtxt").read_text()


def save(path: Path, state) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "charset": "abc"},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
    ],
    ids=["plain", "nested", "as model", "data-parallel", "without counters"],
)
def test_checkpoints_of_every_common_form_fill_the_network(tmp_path: Path, wrap):
    trained = Small()
    nn.init.constant_(trained.layers[0].weight, 0.25)
    path = save(tmp_path / "weights.pth", wrap(trained.state_dict()))
    weights = choose_weights(small_spec(), checkpoint=path)
    filled = filled_network(small_spec(), weights)
    assert weights.label.startswith("checkpoint ")
    assert not filled.training
    assert all(map(torch.equal, filled.parameters(), trained.parameters()))


def test_a_checkpoint_of_another_network_is_refused_key_by_key(tmp_path: Path):
    state = Small().state_dict()
    state["layers.0.weight"] = torch.zeros(8, 5)
    state["extra.weight"] = state.pop("layers.3.bias")
    path = save(tmp_path / "other.pth", state)
    with pytest.raises(CheckpointError) as raised:
        export_model(small_spec(), tmp_path, checkpoint=path)
    text = str(raised.value)
    assert "1 missing: layers.3.bias" in text
    assert "1 unexpected: extra.weight" in text
    assert "1 of another shape: layers.0.weight: network (8, 4), checkpoint (8, 5)" in text


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", np.zeros(3).tobytes()])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth is no checkpoint that can be read safely"):
        export_model(small_spec(), tmp_path, checkpoint=path)


def test_a_whole_pickled_network_is_refused(tmp_path: Path):
    path = save(tmp_path / "network.pth", Small())
    with pytest.raises(CheckpointError, match=r"torch\.save\(network\.state_dict\(\), path\)"):
        export_model(small_spec(), tmp_path, checkpoint=path)


def test_without_weights_the_two_ways_to_get_some_are_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match="--checkpoint FILE, or --random-weights"):
        export_model(small_spec(), tmp_path)


def test_a_config_with_windows_line_ends_is_not_touched(tmp_path: Path):
    export_model(small_spec(), tmp_path, random_weights=True)
    config = tmp_path / "small" / "config.pbtxt"
    config.write_bytes(config.read_bytes().replace(b"\n", b"\r\n"))
    before = config.read_bytes()
    export_model(small_spec(), tmp_path, random_weights=True)
    assert config.read_bytes() == before
