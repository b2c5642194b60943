"""The torch half of `export.sources.specs.pixels`."""

import torch
from torch import nn

__all__ = ["PixelModule"]


class PixelModule(nn.Module):
    """UINT8 [batch, height, width, 3] -> probabilities FP32 [batch, classes]."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Shapes are the class's; (pixel - mean) / std in FP32, the network, softmax over the classes."""
        planes = image.permute(0, 3, 1, 2).to(torch.float32)
        return self.network((planes - self.mean) / self.std).softmax(dim=1)
