"""A small network and its spec, which tests of whole exports spoil in one way each."""

import dataclasses

import torch
from torch import nn

from export import ModelSpec, Tensor

__all__ = ["Small", "small_spec"]


class Small(nn.Module):
    """[batch, 8] -> [batch, 4]."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def small_spec(network=Small, **changes) -> ModelSpec:
    spec = ModelSpec(
        name="small",
        network=network,
        served=lambda network: network,
        inputs=(Tensor("x", "float32", (8,)),),
        outputs=(Tensor("y", "float32", (4,)),),
        max_batch_size=8,
        tolerance=1e-5,
    )
    return dataclasses.replace(spec, **changes)
