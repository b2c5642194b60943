"""Photographs as detectors take them, and their boxes on the way back.

A detector has one size. A photograph is made to fit into it, its sides in proportion, with even borders (a
letterbox), or is stretched over all of it, as its network was trained. `Placed` remembers where it lies, so
that boxes come back in pixels of the upright photograph.

Pixels are Pillow's, of the whole photograph: where some are one grey level off, as of a faster resize or of a
JPEG that is opened at half its size, boxes move by pixels (docs/decisions/0039).

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["BORDER", "Letterbox", "Placed"]

BORDER = 114  # the grey level that most detectors are trained with


@dataclass(frozen=True)
class Letterbox:
    """width, height: of what a detector takes, in pixels; border: a grey level, 0 to 255."""

    width: int
    height: int
    is_stretched: bool = False
    border: int = BORDER

    def placed(self, image: Image.Image) -> Placed:
        """The photograph, upright and in mode "L" or "RGB", in the middle."""
        width, height = self._inside(*image.size)
        left, top = (self.width - width) // 2, (self.height - height) // 2
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC).convert("RGB"))
        if (width, height) != (self.width, self.height):
            whole = np.full((self.height, self.width, 3), self.border, np.uint8)
            whole[top : top + height, left : left + width] = pixels
            pixels = whole
        return Placed(pixels, (left, top, width, height), image.size)

    def _inside(self, width: int, height: int) -> tuple[int, int]:
        """The width and height that a photograph of that width and height has in here."""
        if self.is_stretched:
            return self.width, self.height
        scale = min(self.width / width, self.height / height)
        return (
            min(self.width, max(1, round(width * scale))),
            min(self.height, max(1, round(height * scale))),
        )


@dataclass(frozen=True)
class Placed:
    """pixels: UINT8 [height, width, 3]; inside: left, top, width and height of the photograph in them; own:
    its width and height, upright."""

    pixels: NDArray[Any]
    inside: tuple[int, int, int, int]
    own: tuple[int, int]

    def in_photograph(self, boxes: NDArray[Any]) -> NDArray[np.float32]:
        """FP32 [n, 4], left, top, right and bottom in these pixels -> in the photograph's, within its
        sides."""
        left, top, width, height = self.inside
        scales = np.array(self.own * 2) / (width, height, width, height)
        placed = (boxes.astype(np.float64) - (left, top, left, top)) * scales
        return np.clip(placed, 0, self.own * 2).astype(np.float32)
