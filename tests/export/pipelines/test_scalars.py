"""A number for each item (`dims=()`): exported, loaded by the real server, answered in batches."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from torch import nn

from export import ModelSpec, State, Tensor
from export.common.errors import SpecError
from export.pipelines.pytorch import export_model
from export.repository.configs.contract import parse_config
from server import TritonServer


class Scored(nn.Module):
    """x FP32 [batch, 8], scale FP32 [batch], level INT64 [batch] -> y FP32 [batch, 4], score FP32 [batch]."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(
        self, x: torch.Tensor, scale: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.linear(x) * scale[:, None]
        return y, y[:, 0] + level


SCORED = ModelSpec(
    name="scored",
    network=Scored,
    served=lambda network: network,
    inputs=(Tensor("x", "float32", (8,)), Tensor("scale", "float32", ()), Tensor("level", "int64", ())),
    outputs=(Tensor("y", "float32", (4,)), Tensor("score", "float32", ())),
    max_batch_size=8,
    tolerance=1e-4,
)


class Score(nn.Module):
    """Only numbers, in and out."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.atan2(a, b)


SCORE = dataclasses.replace(
    SCORED,
    name="score",
    network=Score,
    inputs=(Tensor("a", "float32", ()), Tensor("b", "float32", ())),
    outputs=(Tensor("angle", "float32", ()),),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scalars")
    for spec in (SCORED, SCORE):
        export_model(spec, path, random_weights=True)
    return path


@pytest.fixture(scope="module")
def running(repository: Path, tmp_path_factory):
    with TritonServer(repository, log=tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.mark.slow
def test_the_config_has_a_dim_that_the_graph_has_not(repository: Path):
    config = parse_config((repository / "scored" / "config.pbtxt").read_text(), "config")
    by_name = {tensor.name: tensor for tensor in (*config.input, *config.output)}
    for name in ("scale", "level", "score"):
        assert list(by_name[name].dims) == [1]
        assert by_name[name].HasField("reshape")
        assert list(by_name[name].reshape.shape) == []
    for name in ("x", "y"):
        assert not by_name[name].HasField("reshape")
    assert [list(warm.inputs["scale"].dims) for warm in config.model_warmup] == [[1]]


def asked(client, library, model: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    inputs = []
    for name, array in arrays.items():
        kind = {"float32": "FP32", "int64": "INT64"}[str(array.dtype)]
        inputs.append(library.InferInput(name, array.shape, kind))
        inputs[-1].set_data_from_numpy(array)
    answer = client.infer(model, inputs)
    names = {"scored": ("y", "score"), "score": ("angle",)}[model]
    return {name: answer.as_numpy(name) for name in names}


@pytest.mark.parametrize("library", [grpcclient, httpclient], ids=["grpc", "http"])
def test_batches_of_numbers_are_answered_as_pytorch_does(running, library):
    torch.manual_seed(0)
    network = Scored().eval()
    random = np.random.default_rng(1)
    url = running.grpc_url if library is grpcclient else running.http_url
    client = library.InferenceServerClient(url.removeprefix("http://"))
    for size in (1, 2, 8):
        x = random.normal(size=(size, 8)).astype(np.float32)
        scale = random.normal(size=(size, 1)).astype(np.float32)
        level = random.integers(0, 9, (size, 1))
        found = asked(client, library, "scored", {"x": x, "scale": scale, "level": level})
        with torch.inference_mode():
            arguments = (x, scale[:, 0], level[:, 0])
            y, score = (tensor.numpy() for tensor in network(*map(torch.from_numpy, arguments)))
        np.testing.assert_allclose(found["y"], y, atol=1e-5)
        assert found["score"].shape == (size, 1)
        np.testing.assert_allclose(found["score"][:, 0], score, atol=1e-5)


def test_numbers_of_strangers_share_a_batch(running):
    """Forty at once, of one and of three items; each gets its own angles."""
    random = np.random.default_rng(2)
    requests = [random.normal(size=(2, 1 + 2 * (number % 2), 1)).astype(np.float32) for number in range(40)]
    client = grpcclient.InferenceServerClient(running.grpc_url)

    def ask(request: np.ndarray) -> np.ndarray:
        return asked(client, grpcclient, "score", {"a": request[0], "b": request[1]})["angle"]

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, requests))
    for (a, b), angle in zip(requests, answers, strict=True):
        np.testing.assert_allclose(angle, np.arctan2(a, b), atol=1e-5)
    statistics = client.get_inference_statistics("score").model_stats[0]
    assert statistics.inference_count >= 80
    assert statistics.execution_count < statistics.inference_count  # they did share batches


def test_a_state_of_a_single_number_is_refused():
    with pytest.raises(SpecError, match=r"state h_in has dims \(\), .* give it \(1,\)"):
        State("h_in", "h_out", "float32", ())
