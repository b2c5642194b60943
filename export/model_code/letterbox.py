"""Photographs as detectors take them, and their boxes on the way back.

A detector has one size. A photograph is made to fit into it, its sides in proportion, with even borders (a
letterbox), or is stretched over all of it, as its network was trained. `Placed` remembers where it lies, so
that boxes come back in pixels of the upright photograph:

    pixels, own = decoding.decode_resized(encoded, letterbox.inside)
    placed = letterbox.placed(pixels, own)

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BORDER", "Letterbox", "Placed"]

BORDER = 114  # the grey level that most detectors are trained with


@dataclass(frozen=True)
class Letterbox:
    """width, height: of what a detector takes, in pixels; border: a grey level, 0 to 255."""

    width: int
    height: int
    is_stretched: bool = False
    border: int = BORDER

    def inside(self, width: int, height: int) -> tuple[int, int]:
        """The width and height that a photograph of that width and height has in here."""
        if self.is_stretched:
            return self.width, self.height
        scale = min(self.width / width, self.height / height)
        return (
            min(self.width, max(1, round(width * scale))),
            min(self.height, max(1, round(height * scale))),
        )

    def placed(self, pixels: NDArray[Any], own: tuple[int, int]) -> Placed:
        """In the middle: `pixels` UINT8 [h, w, 3], as large as `inside` says; `own` width and height."""
        height, width = pixels.shape[:2]
        left, top = (self.width - width) // 2, (self.height - height) // 2
        whole = pixels
        if (width, height) != (self.width, self.height):
            whole = np.full((self.height, self.width, 3), self.border, np.uint8)
            whole[top : top + height, left : left + width] = pixels
        return Placed(whole, (left, top, width, height), own)


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
