"""What a class loses where the image is hidden, asked of copies of the image, each blurred in other places.

RISE (Petsiuk et al., "RISE: Randomized Input Sampling for Explanation", BMVC 2018), which needs a network's
answers and nothing else, with four changes:

- what is hidden is blurred, not black, as black edges are objects of their own;
- copies show between a ninth and eight ninths of the image, not always a half: what a class needs when little
  is seen is something else than what it misses when little is hidden;
- the first half of the copies is random; the second asks more closely: by turns they show the places that
  seem to matter by the first half, or hide them, each with an error of its own added;
- compared are logarithms of the odds, less what the kind of copy and the share that it shows explain, and in
  each kind and share as parts of what they vary by.

Knows nothing of Triton, and nothing of networks.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["Copies", "closer", "enlarged", "masks", "saliency", "supposed"]

PLACES = 7  # of a side that are shown or hidden; they lie elsewhere in each mask
SHARES = np.arange(1, 9) / 9  # of the image that are shown, in turn
SIDE = 56  # of a mask; a random one is as smooth as eight pixels for each place can be
BLUR = 20 / 224  # the deviation, as a share of the side; what is blurred so has no class
LEAST, MOST = 1e-6, 1 - 1e-4  # probability: beyond them numbers differ, and nothing else
LEAST_SPREAD = 0.5  # of the odds' logarithms: copies that differ by less have little to say
SEED, CLOSER_SEED = 0, 1  # the same chance for every image, so that the same image has the same answer

Map = NDArray[np.float32]  # [SIDE, SIDE]; of masks 0 (hidden) to 1 (shown)


@functools.lru_cache(maxsize=4)
def masks(count: int) -> Map:
    """Random ones, FP32 [count, SIDE, SIDE]."""
    random = np.random.default_rng(SEED)
    made = np.empty((count, SIDE, SIDE), np.float32)
    for number, mask in enumerate(made):
        drawn = random.random((PLACES + 1,) * 2) < SHARES[number % len(SHARES)]
        mask[:] = _smooth(drawn.astype(np.float32), random)
    made.flags.writeable = False  # they are shared
    return made


def closer(found: Map, count: int) -> Map:
    """FP32 [count, SIDE, SIDE]: by turns the largest of `found` shown, and hidden, give or take an error.

    found: FP32 [SIDE, SIDE], from `supposed`; the error is random, smooth, and as large as its differences
    """
    random = np.random.default_rng(CLOSER_SEED)
    known = (found - found.mean()) / max(found.std(), np.finfo(np.float32).tiny)
    made = np.empty((count, SIDE, SIDE), np.float32)
    for number, mask in enumerate(made):
        error = _smooth(random.standard_normal((PLACES + 1,) * 2).astype(np.float32), random)
        supposed = known + error / error.std()
        share = SHARES[number // 2 % len(SHARES)]
        if number % 2:
            mask[:] = supposed < np.quantile(supposed, share)
        else:
            mask[:] = supposed >= np.quantile(supposed, 1 - share)
    return made


class Copies:
    """Of one image, UINT8 [height, width, 3]."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(BLUR * pixels.shape[1]))
        self.blurred = np.asarray(blurred, np.float32)
        self.lost = pixels.astype(np.float32) - self.blurred

    def masked(self, some: Map) -> NDArray[np.uint8]:
        """UINT8 [n, height, width, 3]: what each of the masks FP32 [n, SIDE, SIDE] leaves of the image."""
        made = np.empty((len(some), *self.blurred.shape), np.uint8)
        for copy, mask in zip(made, some, strict=True):
            copy[:] = np.rint(self.blurred + enlarged(mask, self.blurred.shape[:2])[..., None] * self.lost)
        return made


def supposed(some: Map, probabilities: NDArray[np.float32]) -> Map:
    """FP32 [SIDE, SIDE]: what random copies alone say of each place, as `saliency` does.

    some: FP32 [n, SIDE, SIDE], from `masks`; probabilities: of the class, [n], of the copies that they make
    """
    flat, odds = _unshared(some, probabilities, [slice(None)])
    return _slopes(flat, odds, np.ones(len(odds)))


def saliency(some: Map, probabilities: NDArray[np.float32], random: int) -> Map:
    """FP32 [SIDE, SIDE]: by how much the logarithm of the odds rises where a place is shown.

    some: FP32 [n, SIDE, SIDE], masks: the first `random` of `masks`, then those of `closer`
    probabilities: of the class, [n], of the copies that they make

    The slope of a line through the copies at each place, once what a parabola of the share that is shown
    tells of masks and odds is taken from both, for each kind of copy. Copies of a kind and share whose odds
    vary much weigh less, or the map would be of these alone. Last, the map is smoothed, by rows and by
    columns: half stays where it was, and a quarter goes to each side. The second half's masks have edges,
    which no question was about.
    """
    flat, odds = _unshared(
        some, probabilities, [slice(random), slice(random, None, 2), slice(random + 1, None, 2)]
    )
    weights = np.empty(len(odds))
    count = len(SHARES)
    alike = [slice(first, random, count) for first in range(count)]
    alike += [slice(random + first, len(odds), 2 * count) for first in range(2 * count)]
    for group in alike:
        spread = np.sqrt((odds[group] ** 2).sum() / max(len(odds[group]), 1))
        weights[group] = 1 / max(spread, LEAST_SPREAD)
    padded = np.pad(_slopes(flat, odds, weights), 1, "edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return np.asarray((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16, np.float32)


def enlarged(values: Map, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """FP32 of `shape`, bilinearly."""
    return np.asarray(Image.fromarray(values).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _unshared(
    some: Map, probabilities: NDArray[np.float32], kinds: Sequence[slice]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Masks [n, SIDE * SIDE] and logarithms of odds [n], less what the share shown explains in each kind."""
    flat = some.reshape(len(some), -1).astype(np.float64)
    likely = np.clip(probabilities.astype(np.float64), LEAST, MOST)
    odds = np.log(likely / (1 - likely))
    for kind in kinds:
        shares = np.vander(flat[kind].mean(1), 3)
        explained = shares @ np.linalg.pinv(shares)
        flat[kind] -= explained @ flat[kind]
        odds[kind] -= explained @ odds[kind]
    return flat, odds


def _slopes(flat: NDArray[np.float64], odds: NDArray[np.float64], weights: NDArray[np.float64]) -> Map:
    slopes = (weights * odds) @ flat / np.maximum(weights @ flat**2, np.finfo(np.float32).tiny)
    return np.asarray(slopes.reshape(SIDE, SIDE), np.float32)


def _smooth(drawn: Map, random: np.random.Generator) -> Map:
    """[SIDE, SIDE] of what was drawn for places, one more a side than there are: they lie anywhere."""
    place = SIDE // PLACES
    whole = enlarged(drawn, (SIDE + place,) * 2)
    top, left = random.integers(0, place, 2)
    return whole[top : top + SIDE, left : left + SIDE]
