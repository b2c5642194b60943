"""Probabilities of ImageNet's classes to those of its places: nothing is learnt, some are added up."""

import torch
from torch import nn

from export.networks.place_classes import place_indices

__all__ = ["ImageNetPlaces"]


class ImageNetPlaces(nn.Module):
    """FP32 [batch, 1000], shares of a whole -> FP32 [batch, places + 1] that add up to 1, the rest last."""

    places: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.tensor(place_indices()), persistent=False)

    def forward(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Shapes are the class's."""
        whole = probabilities.sum(1, keepdim=True)
        places = probabilities[:, self.places]
        other = (whole - places.sum(1, keepdim=True)).clamp(min=0)
        return torch.cat((places, other), 1) / whole
