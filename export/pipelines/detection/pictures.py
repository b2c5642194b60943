"""What a detector is tried with: photographs, and pictures with nothing in them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.model_code.letterbox import BORDER, Letterbox
from export.sources.photographs import photographs

__all__ = ["SHOWN", "pictures_to_know", "resized_photographs"]

SHOWN = 8  # photographs


def resized_photographs(size: tuple[int, int], is_stretched: bool = False) -> list[NDArray[Any]]:
    """UINT8 [height, width, 3] each; size: height and width. Raises `PackageError` where they cannot be
    fetched."""
    letterbox = Letterbox(size[1], size[0], is_stretched)
    images = [Image.open(photograph.path).convert("RGB") for photograph in photographs()[:SHOWN]]
    return [letterbox.placed(image).pixels for image in images]


def pictures_to_know(size: tuple[int, int]) -> list[NDArray[Any]]:
    """The same, a grey one and one of noise: what an output holds shows itself where nothing is, too."""
    flat = np.full((*size, 3), BORDER, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return [*resized_photographs(size), flat, noise]
