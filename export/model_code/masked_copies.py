"""What a class loses where the image is hidden, asked of copies of the image, each blurred in other places.

RISE (Petsiuk et al., "RISE: Randomized Input Sampling for Explanation", BMVC 2018), which needs a network's
answers and nothing else, with three changes:

- what is hidden is blurred, not black, as black edges are objects of their own;
- copies show between a ninth and eight ninths of the image, not always a half: what a class needs when little
  is seen is something else than what it misses when little is hidden;
- compared are logarithms of the probability, less what the share that is seen explains by itself.

Knows nothing of Triton, and nothing of networks.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["Copies", "masks", "saliency"]

PLACES = 7  # of a side that are shown or hidden; they lie elsewhere in each mask
SHARES = np.arange(1, 9) / 9  # of the image that are shown, in turn
SIDE = 56  # of a mask; it is as smooth as eight pixels for each place can be
BLUR = 20 / 224  # the deviation, as a share of the side; what is blurred so has no class
LEAST = 1e-6  # probability: below it numbers differ, and nothing else
SEED = 0  # the same masks for every image, so that the same image has the same answer


@functools.lru_cache(maxsize=4)
def masks(count: int) -> NDArray[np.float32]:
    """FP32 [count, SIDE, SIDE], 0 (hidden) to 1 (shown)."""
    random = np.random.default_rng(SEED)
    place = SIDE // PLACES
    made = np.empty((count, SIDE, SIDE), np.float32)
    for number in range(count):
        shown = random.random((PLACES + 1, PLACES + 1)) < SHARES[number % len(SHARES)]
        whole = Image.fromarray(shown.astype(np.float32)).resize(
            (SIDE + place,) * 2, Image.Resampling.BILINEAR
        )
        top, left = random.integers(0, place, 2)
        made[number] = np.asarray(whole)[top : top + SIDE, left : left + SIDE]
    made.flags.writeable = False  # they are shared
    return made


class Copies:
    """Of one image, UINT8 [height, width, 3]."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(BLUR * pixels.shape[1]))
        self.blurred = np.asarray(blurred, np.float32)
        self.lost = pixels.astype(np.float32) - self.blurred

    def masked(self, some: NDArray[np.float32]) -> NDArray[np.uint8]:
        """UINT8 [n, height, width, 3]: what each of the masks FP32 [n, SIDE, SIDE] leaves of the image."""
        made = np.empty((len(some), *self.blurred.shape), np.uint8)
        for copy, mask in zip(made, some, strict=True):
            copy[:] = np.rint(self.blurred + _enlarged(mask, self.blurred.shape[:2])[..., None] * self.lost)
        return made


def saliency(
    some: NDArray[np.float32], probabilities: NDArray[np.float32], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """FP32 of `shape`: by how much the logarithm of the probability rises where a place is shown.

    some: FP32 [n, SIDE, SIDE], masks; probabilities: of the class, [n], of the copies that they make

    The slope of a line through the copies at each place, once what a parabola of the share that is shown
    tells of masks and logarithms is taken from both.
    """
    flat = some.reshape(len(some), -1).astype(np.float64)
    shares = np.vander(flat.mean(1), 3)
    explained = shares @ np.linalg.pinv(shares)
    flat = flat - explained @ flat
    logarithms = np.log(np.maximum(probabilities.astype(np.float64), LEAST))
    logarithms -= explained @ logarithms
    slopes = logarithms @ flat / np.maximum((flat**2).sum(0), np.finfo(np.float32).tiny)
    return _enlarged(slopes.reshape(some.shape[1:]).astype(np.float32), shape)


def _enlarged(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
