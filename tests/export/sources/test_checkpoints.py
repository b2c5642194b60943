"""Checkpoints as trainings save them, and those that must not be served."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from export import ModelSpec, Tensor
from export.common.errors import CheckpointError
from export.sources.weights import choose_weights, filled_network


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(x))


class Network(nn.Module):
    """Its parts are called as wrappers are, to make it hard."""

    def __init__(self):
        super().__init__()
        self.model = Part()
        self.head = nn.Linear(4, 3)
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.model(x))


SPEC = ModelSpec(
    name="network",
    network=Network,
    served=lambda network: network,
    inputs=(Tensor("x", "float32", (4,)),),
    outputs=(Tensor("y", "float32", (3,)),),
    max_batch_size=4,
    tolerance=1e-5,
)


def trained(value: float = 0.25) -> dict[str, torch.Tensor]:
    network = Network()
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network.state_dict()


def filled(path: Path) -> nn.Module:
    return filled_network(SPEC, choose_weights(SPEC, checkpoint=path))


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def prefixed(state: dict, prefix: str) -> dict:
    return {f"{prefix}{key}": value for key, value in state.items()}


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(4, 4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}

WRAPPINGS = {
    "alone": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": OPTIMIZER},
    "model_state_dict": lambda state: {
        "model_state_dict": state,
        "optimizer_state_dict": OPTIMIZER,
        "loss": 0.5,
    },
    "model": lambda state: {"model": state, "args": {"lr": 0.1}},
    "net": lambda state: {"net": state, "acc": torch.tensor(0.9)},
    "two deep": lambda state: {"checkpoint": {"model": state}},
    "data-parallel": lambda state: prefixed(state, "module."),
    "data-parallel under a key": lambda state: {"state_dict": prefixed(state, "module.")},
    "lightning": lambda state: {"state_dict": {**prefixed(state, "model."), "loss.weight": torch.ones(3)}},
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "compiled and parallel": lambda state: prefixed(state, "module._orig_mod."),
    "a part compiled": lambda state: {
        key.replace("model.", "model._orig_mod."): value for key, value in state.items()
    },
    "averaged": lambda state: {"n_averaged": torch.tensor(5), **prefixed(state, "module.")},
    "without counters": lambda state: {
        key: value for key, value in state.items() if "num_batches" not in key
    },
    "with an average that is the same": lambda state: {"model": state, "ema": dict(state)},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_weights_are_found_in_what_a_training_wrote_around_them(tmp_path: Path, wrapping: str):
    state = trained()
    network = filled(saved(tmp_path, WRAPPINGS[wrapping](state)))
    assert not network.training
    assert all(parameter.eq(0.25).all() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ({"model": trained(1.0), "ema": trained(2.0)}, "'model', 'ema'"),
        (
            {"state_dict": {**prefixed(trained(1.0), "net."), **prefixed(trained(2.0), "ema.")}},
            "'state_dict.ema'",
        ),
        ({**trained(1.0), **prefixed(trained(2.0), "ema.")}, "'', 'ema'"),
    ],
    ids=["two keys", "two prefixes", "beside the plain ones"],
)
def test_several_that_fit_and_differ_are_told(tmp_path: Path, content, places: str):
    with pytest.raises(
        CheckpointError, match="several state dicts that fit network, and they differ"
    ) as raised:
        filled(saved(tmp_path, content))
    assert places in str(raised.value)


def test_the_nearest_one_is_compared_key_by_key(tmp_path: Path):
    state = trained()
    state["head.weight"] = torch.zeros(5, 4)
    del state["head.bias"]
    state["tail.bias"] = torch.zeros(5)
    with pytest.raises(CheckpointError) as raised:
        filled(saved(tmp_path, {"optimizer": OPTIMIZER, "net": state}))
    text = str(raised.value)
    assert "(its 'net') for network does not fit the network" in text
    assert "1 missing: head.bias" in text
    assert "1 unexpected: tail.bias" in text
    assert "head.weight: network (3, 4), checkpoint (5, 4)" in text


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"a": {"b": {"c": "text"}}}])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content):
    with pytest.raises(CheckpointError, match="holds no state dict"):
        filled(saved(tmp_path, content))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was_run",))

    path = tmp_path / "weights.pth"
    torch.save({"state_dict": trained(), "extra": Harmful()}, path)
    with pytest.raises(CheckpointError, match="no checkpoint that can be read safely"):
        filled(path)
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match="no checkpoint that can be read safely"):
        filled(path)
    assert not (tmp_path / "was_run").exists()


def test_a_dict_that_holds_itself_ends(tmp_path: Path):
    content = {"state_dict": trained()}
    content["state_dict"]["self"] = content
    assert filled(saved(tmp_path, content)).head.bias[0] == 0.25


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("key", ["model.linear.weight", "model.norm.running_var"])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, key: str, value: float):
    state = trained()
    state[key].view(-1)[1] = value
    with pytest.raises(CheckpointError) as raised:
        filled(saved(tmp_path, state))
    text = str(raised.value)
    count = "1 NaN, 0 infinite" if value != value else "0 NaN, 1 infinite"
    assert f"{key} {tuple(state[key].shape)}: {count}" in text
    assert "1 tensor with" in text  # the mask's infinities are the network's own


def test_random_weights_that_are_not_finite_are_named_too():
    class Uninitialised(Network):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.full((3,), torch.nan))

    spec = ModelSpec(**{**vars(SPEC), "network": Uninitialised})
    with pytest.raises(CheckpointError, match=r"scale \(3,\): 3 NaN"):
        filled_network(spec, choose_weights(spec, random=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [("model.norm.running_var", torch.inf), ("model.norm.running_mean", -torch.inf), ("mask", torch.nan)],
)
def test_what_the_network_makes_itself_is_a_mask_or_refused(name: str, value: float):
    """Infinite statistics of a batch norm are none, and nobody masks with NaN."""

    class Made(Network):
        def __init__(self):
            super().__init__()
            self.state_dict()[name].view(-1)[1] = value

    spec = ModelSpec(**{**vars(SPEC), "network": Made})
    with pytest.raises(CheckpointError, match=name):
        filled_network(spec, choose_weights(spec, random=True))
