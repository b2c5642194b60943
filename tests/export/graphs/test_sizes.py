"""Networks that are right for some sizes only: what is refused, what the graph refuses, what is published."""

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
import tritonclient.grpc as grpcclient
from torch import nn
from tritonclient.utils import InferenceServerException

from export import ModelSpec, Tensor
from export.common.errors import ConversionError, ExportError, SpecError, VerificationError
from export.pipelines.plans.profiles import profile_of
from export.pipelines.pytorch import export_model
from export.repository.configs.contract import parse_config
from server import TritonServer

HERE = Path(__file__).name


class Small(nn.Module):
    """Lines [batch, any, 8] -> [batch, 4]."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).mean(1)


def spec_of(network, **changes) -> ModelSpec:
    spec = ModelSpec(
        name="small",
        network=network,
        served=lambda network: network,
        inputs=(Tensor("x", "float32", (-1, 8)),),
        outputs=(Tensor("y", "float32", (4,)),),
        max_batch_size=8,
        tolerance=1e-5,
    )
    return dataclasses.replace(spec, **changes)


class LongerThanHundred(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > 100:
            x = x * 2
        return self.linear(x).mean(1)


class ShorterThanThirty(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] < 30:
            x = x * 2
        return self.linear(x).mean(1)


class Even(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] % 2 == 0:
            x = x * 2
        return self.linear(x).mean(1)


class NotFifty(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x if x.shape[1] != 50 else x * 2).mean(1)


class NotAThousand(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x if x.shape[1] != 1000 else x * 2).mean(1)


class NotTwiceIt(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x if 2 * x.shape[1] + 4 != 1618 else x * 2).mean(1)


class Squared(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x if x.shape[1] ** 2 <= 2_000_000 else x * 2).mean(1)


class HalfAsNumber(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).mean(1) * float(x.shape[1] // 2)


class ExactlyForty(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x * 2 if x.shape[1] == 40 else x).mean(1)


class BatchAboveFour(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x * 2 if x.shape[0] > 4 else x).mean(1)


class BatchOfFive(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x * 2 if x.shape[0] == 5 else x).mean(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "kind", "condition"),
    [
        (
            LongerThanHundred,
            ConversionError,
            "input x, axis 1: the spec allows any size, and the graph is right",
        ),
        (ShorterThanThirty, VerificationError, "right only while x.shape[1] >= 30"),
        (Even, VerificationError, "right only while (x.shape[1] % 2) == 0"),
        (NotFifty, VerificationError, "right only while x.shape[1] != 50"),
        (NotAThousand, VerificationError, "right only while x.shape[1] != 1000"),
        (Squared, VerificationError, "right only while x.shape[1]*x.shape[1] <= 2000000"),
        (HalfAsNumber, VerificationError, "right only while (x.shape[1] // 2) == 20"),
        (ExactlyForty, ConversionError, "a constant of a size that may vary: 40"),
        (BatchAboveFour, ConversionError, "the network branches on the batch size"),
        (BatchOfFive, VerificationError, "right only while x.shape[0] != 5"),
    ],
)
def test_a_branch_on_a_size_is_refused_with_its_range_and_line(tmp_path: Path, network, kind, condition: str):
    with pytest.raises(kind) as raised:
        export_model(spec_of(network), tmp_path, random_weights=True)
    text = str(raised.value)
    assert condition in text
    assert f"{HERE}:" in text
    assert "x.shape[" in text.partition(f"{HERE}:")[2]  # the line's own text
    assert not (tmp_path / "small").exists()


def test_a_size_that_a_condition_comes_to_is_tried(tmp_path: Path):
    with pytest.raises(VerificationError, match=r"x.shape\[1\] != 807: at batch 2, dims \[\[807, 8\]\]"):
        export_model(spec_of(NotTwiceIt), tmp_path, random_weights=True)


@pytest.mark.slow
def test_a_batch_size_that_the_exporter_lowers_by_itself_is_refused(tmp_path: Path):
    spec = spec_of(BatchAboveFour, inputs=(Tensor("x", "float32", (3, 8)),))
    with pytest.raises(ConversionError, match="a batch of up to 4 only, and the spec's max_batch_size is 8"):
        export_model(spec, tmp_path, random_weights=True)
    lowered = dataclasses.replace(spec, max_batch_size=4)
    assert export_model(lowered, tmp_path, random_weights=True).outcome == "published"


def test_the_range_is_named_and_how_to_declare_it(tmp_path: Path):
    with pytest.raises(ConversionError) as raised:
        export_model(spec_of(LongerThanHundred), tmp_path, random_weights=True)
    text = str(raised.value)
    assert "for 1 to 100 only: its size in the example, 40, decides a branch" in text
    assert "`if x.shape[1] > 100:`" in text
    assert "Tensor('x', ..., max_dims=(100, -1))" in text


def published(spec: ModelSpec, tmp_path: Path) -> tuple[onnxruntime.InferenceSession, nn.Module]:
    report = export_model(spec, tmp_path, random_weights=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(report.path, options, providers=["CPUExecutionProvider"])
    torch.manual_seed(0)
    return session, spec.served(spec.network()).eval()


def test_a_declared_bound_is_published_and_refused_beyond(tmp_path: Path):
    inputs = (Tensor("x", "float32", (-1, 8), max_dims=(100, -1)),)
    session, network = published(spec_of(LongerThanHundred, inputs=inputs), tmp_path)
    config = parse_config((tmp_path / "small" / "config.pbtxt").read_text(), "config")
    assert config.parameters["max_shape"].string_value == "x=100,8"
    longest = np.random.default_rng(0).normal(size=(3, 100, 8)).astype(np.float32)
    [answer] = session.run(None, {"x": longest})
    np.testing.assert_allclose(answer, network(torch.from_numpy(longest)).detach(), atol=1e-5)
    with pytest.raises(Exception, match=r"x is refused unless x\.shape\[1\] <= 100"):
        session.run(None, {"x": np.zeros((3, 101, 8), np.float32)})


def test_the_served_model_refuses_what_is_larger_and_answers_its_neighbours(tmp_path: Path):
    inputs = (Tensor("x", "float32", (-1, 8), max_dims=(100, -1)),)
    _, network = published(spec_of(LongerThanHundred, inputs=inputs), tmp_path / "repository")
    with TritonServer(tmp_path / "repository", log=tmp_path / "log") as running:
        client = grpcclient.InferenceServerClient(running.grpc_url)

        def ask(length: int) -> np.ndarray:
            lines = np.full((1, length, 8), 1 / length, np.float32)
            tensor = grpcclient.InferInput("x", lines.shape, "FP32")
            tensor.set_data_from_numpy(lines)
            return client.infer("small", [tensor]).as_numpy("y")

        for length in (1, 100, 101, 5000, 100):
            if length > 100:
                with pytest.raises(InferenceServerException, match=f"size {length} .* 100 of max_shape"):
                    ask(length)
                continue
            expected = network(torch.full((1, length, 8), 1 / length)).detach()
            np.testing.assert_allclose(ask(length), expected, atol=1e-5)


def test_a_bound_above_what_the_graph_is_right_for_is_refused(tmp_path: Path):
    inputs = (Tensor("x", "float32", (-1, 8), max_dims=(200, -1)),)
    with pytest.raises(
        ConversionError, match="the spec allows up to 200, and the graph is right for 1 to 100"
    ):
        export_model(spec_of(LongerThanHundred, inputs=inputs), tmp_path, random_weights=True)


@pytest.mark.slow
def test_sizes_above_a_bound_are_not_tried(tmp_path: Path):
    """Right up to 80, wrong above, without any branch that the exporter sees."""

    class WrongAbove(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            return y if torch.compiler.is_exporting() or x.shape[1] <= 80 else y + 1

    with pytest.raises(VerificationError, match=r"differs .* dims \[\[147, 8\]\], which is no sample's size"):
        export_model(spec_of(WrongAbove), tmp_path, random_weights=True)
    bounded = spec_of(WrongAbove, inputs=(Tensor("x", "float32", (-1, 8), max_dims=(80, 8)),))
    assert export_model(bounded, tmp_path, random_weights=True).outcome == "published"


@pytest.mark.slow
def test_a_division_that_rounds_otherwise_in_the_graph_is_named(tmp_path: Path):
    class UpperHalf(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x[:, : -(-x.shape[1] // 2)])

    with pytest.raises(VerificationError, match=r"PyTorch's \[.*\].* floor division of a negative number"):
        export_model(
            spec_of(UpperHalf, outputs=(Tensor("y", "float32", (-1, 4)),)), tmp_path, random_weights=True
        )


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (lambda: Tensor("x", "float32", (-1, 8), max_dims=(100,)), "give the largest"),
        (lambda: Tensor("x", "float32", (-1, 8), max_dims=(0, 8)), "give the largest"),
        (lambda: Tensor("x", "float32", (-1, 8), max_dims=(100, 9)), "give the largest"),
        (
            lambda: spec_of(Small, outputs=(Tensor("y", "float32", (4,), max_dims=(4,)),)),
            "they are for inputs",
        ),
    ],
)
def test_a_bound_that_makes_no_sense_is_refused(tensor, message: str):
    with pytest.raises(SpecError, match=message):
        tensor()


def test_a_plan_is_built_for_sizes_within_the_bound():
    profile = profile_of(spec_of(Small, inputs=(Tensor("x", "float32", (-1, 8), max_dims=(100, 8)),)))
    assert (profile.smallest, profile.optimal, profile.largest) == (
        {"x": (1, 8, 8)},
        {"x": (8, 100, 8)},
        {"x": (8, 100, 8)},
    )


def test_a_sample_above_the_bound_is_refused(tmp_path: Path):
    inputs = (Tensor("x", "float32", (-1, 8), max_dims=(30, 8)),)
    spec = spec_of(Small, inputs=inputs, samples=lambda: [(np.ones((40, 8), np.float32),)])
    with pytest.raises(ExportError, match="has 40 in dim 0 of x, above the spec's 30"):
        export_model(spec, tmp_path, random_weights=True)


class Asserting(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1] >= 16, "too short"
        return super().forward(x)


class Pooled(nn.Module):
    """Images of any size [batch, any, any, 3] -> [batch, 4]; below 10 x 10 nothing is left to pool."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.AvgPool2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.permute(0, 3, 1, 2).float() / 255).mean((2, 3))


IMAGES = (Tensor("x", "uint8", (-1, -1, 3)),)


class NormedPlanes(nn.Module):
    """Instance norm, which PyTorch refuses for a single pixel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.instance_norm(x.permute(0, 3, 1, 2).float() / 255)
        return (y * y.abs()).mean((2, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "refused", "smallest"),
    [
        (spec_of(Asserting), [(2, 15, 8), (1, 1, 8)], (2, 16, 8)),
        (spec_of(Pooled, inputs=IMAGES), [(1, 9, 40, 3), (2, 40, 9, 3), (1, 1, 1, 3)], (2, 10, 10, 3)),
        (
            spec_of(NormedPlanes, inputs=IMAGES, outputs=(Tensor("y", "float32", (3,)),), tolerance=1e-4),
            [(2, 1, 1, 3)],
            (2, 1, 2, 3),
        ),
    ],
    ids=["an assertion", "pooling", "instance norm"],
)
def test_what_the_network_refuses_the_graph_refuses(tmp_path: Path, spec: ModelSpec, refused, smallest):
    """ONNX Runtime alone would answer, with numbers that mean nothing."""
    session, network = published(spec, tmp_path)
    dtype = spec.inputs[0].dtype
    random = np.random.default_rng(0)
    for dims in refused:
        with pytest.raises(Exception, match=r"x is refused unless .*shape"):
            session.run(None, {"x": (random.random(dims) * 200).astype(dtype)})
    batch = (random.random(smallest) * 200).astype(dtype)
    [answer] = session.run(None, {"x": batch})
    np.testing.assert_allclose(answer, network(torch.from_numpy(batch)).detach(), rtol=1e-3, atol=1e-4)


class CutAtSixtyFour(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x[:, : min(x.shape[1], 64)]).mean(1)


class RootOfTheSize(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).sum(1) / x.shape[1] ** 0.5


class TwoHalves(Small):
    """Odd sizes are refused by both."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.reshape(x.shape[0], 2, x.shape[1] // 2, 8)).mean((1, 2))


class Positions(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x * torch.arange(x.shape[1])[:, None] / 100).mean(1)


@pytest.mark.slow
@pytest.mark.parametrize("network", [Small, CutAtSixtyFour, RootOfTheSize, TwoHalves, Positions])
def test_what_is_right_for_all_sizes_is_published(tmp_path: Path, network):
    assert export_model(spec_of(network), tmp_path, random_weights=True).outcome == "published"


class Added(Small):
    """Of equal sizes, as the addition wants them: both sides refuse others."""

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return self.linear(x + z).mean(1)


class LongerOfTwo(Small):
    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return self.linear(x).mean(1) * (2 if x.shape[1] > z.shape[1] else 1)


TWO = (Tensor("x", "float32", (-1, 8)), Tensor("z", "float32", (-1, 8)))


@pytest.mark.slow
def test_two_sizes_that_are_related(tmp_path: Path):
    assert export_model(spec_of(Added, inputs=TWO), tmp_path, random_weights=True).outcome == "published"
    with pytest.raises(VerificationError, match=r"right only while x\.shape\[1\] <= z\.shape\[1\]"):
        export_model(spec_of(LongerOfTwo, inputs=TWO), tmp_path, random_weights=True)
