"""Preprocessing inside the graph: a network on normalised planes becomes one on plain pixels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["PixelClassifier"]


@dataclass(frozen=True)
class PixelClassifier:
    """Turns a classifier of normalised FP32 [batch, 3, height, width] into one of UINT8 pixels.

    `mean` and `std` are per channel (red, green, blue) in pixel values of 0 to 255, and the planes are
    (pixel - mean) / std. The network returns logits [batch, classes]. The module that it makes takes
    UINT8 [batch, height, width, 3] and returns their softmax, probabilities FP32 [batch, classes].
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, network: "nn.Module") -> "nn.Module":
        """The module to serve, with `network`, `mean` and `std` inside; it imports torch."""
        from export.sources.specs.pixel_module import PixelModule  # torch takes seconds to import

        return PixelModule(network, self.mean, self.std)
