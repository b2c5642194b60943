"""What is trained, and from what: one recipe per network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from export.common.packages import LEGERE, extract
from export.networks.text.recognizer import TextRecognizer
from export.networks.text.stream import TextStream

__all__ = ["CNN", "RECIPES", "Recipe", "channels_last"]

CNN = ("stem.", "blocks.")
LEGERE_MEMBER = "legere/data/model.pt"
LEGERE_SHA256 = "bfbf943f8c251bf68183d26fa1837a62190872b93351ce1d93e0c756dac86399"


@dataclass(frozen=True)
class Recipe:
    """What a network starts with and how it learns.

    `read` makes log-probabilities [b, steps, 122] of lines UINT8 [b, 32, w], w a multiple of 4.
    least_padding   columns of white that follow every line: what reads from left to right answers late
    """

    name: str
    network: Callable[[], nn.Module]
    pretrained: tuple[str, ...]  # how the names of legere's weights begin that it starts with
    read: Callable[[Any, torch.Tensor], torch.Tensor]  # of a network and lines
    learning_rate: float  # at its peak
    cnn_factor: float  # of the learning rate, for the pretrained convolutions
    least_padding: int
    short_lines: int  # how many lines are short, at first

    def start(self) -> nn.Module:
        """A new network with the pretrained weights; what has none gets PyTorch's initial values."""
        network = self.network()
        state = {name: value for name, value in _legere_state().items() if name.startswith(self.pretrained)}
        network.load_state_dict(state, strict=False)
        return network


def channels_last(network: nn.Module) -> nn.Module:
    """The same network, with its images laid out as its convolutions on a CPU like them."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _legere_state() -> dict[str, torch.Tensor]:
    """The pretrained recogniser's state dict, fetched if need be."""
    path: Path = extract(LEGERE, LEGERE_MEMBER, LEGERE_SHA256)
    return torch.load(path, map_location="cpu", weights_only=True)["model"]


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "text_recognizer",
            TextRecognizer,
            (*CNN, "rnn.", "head."),
            lambda network, lines: network(lines),
            learning_rate=1e-3,
            cnn_factor=1.0,
            least_padding=0,
            short_lines=0,
        ),
        Recipe(
            "text_stream",
            TextStream,
            CNN,
            TextStream.forward_line,
            learning_rate=2e-3,
            cnn_factor=0.5,
            least_padding=32,
            short_lines=24_000,
        ),
    )
}
