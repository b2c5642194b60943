"""Photographs made worse on purpose, at five strengths, for seeing what a model bears.

The strengths of blur, noise, JPEG compression and brightness are those of ImageNet-C (Hendrycks and
Dietterich, 2019, arXiv:1903.12261), whose photographs had a short side of 256 pixels; `reduced` gives them
that first, as a sigma of 2 pixels is nothing to a photograph of 4,000. ImageNet-C neither turns nor covers
anything: rotation goes up to the 30 degrees of Engstrom et al. (2019, arXiv:1712.02779), occlusion up to the
40 % of random erasing (Zhong et al., 2020, arXiv:1708.04896), both in equal steps.

Knows nothing of models. Images are in mode "L" or "RGB", as `fitting.opened` gives them, and keep their size
and mode.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

__all__ = ["CORRUPTIONS", "SHORT_SIDE", "STRENGTHS", "Corruption", "corrupted", "reduced"]

SHORT_SIDE = 256  # pixels; ImageNet-C's, and what models for 224 x 224 pixels are shown photographs at
LONGEST = 8  # times the short side; a longer strip is made smaller still
STRENGTHS = (1, 2, 3, 4, 5)
GREY = 128  # of what covers a photograph

Effect = Callable[[Image.Image, float, np.random.Generator], Image.Image]


@dataclass(frozen=True)
class Corruption:
    """One way to make a photograph worse: `levels` are what strengths 1 to 5 mean, in `unit`."""

    effect: Effect
    levels: tuple[float, float, float, float, float]
    unit: str


def reduced(image: Image.Image, short_side: int = SHORT_SIDE) -> Image.Image:
    """With a short side of so many pixels, or fewer: nothing is enlarged. Bicubic, antialiased."""
    scale = min(1, short_side / min(image.size), LONGEST * short_side / max(image.size))
    if scale == 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def corrupted(image: Image.Image, name: str, strength: int, seed: Sequence[int]) -> Image.Image:
    """The image after one of `CORRUPTIONS` at a strength of 1 to 5.

    One seed gives one noise, direction and place at all strengths, so that a stronger one differs from a
    weaker in nothing else.
    """
    corruption = CORRUPTIONS[name]
    level = corruption.levels[STRENGTHS.index(strength)]
    return corruption.effect(image, level, np.random.default_rng(seed))


def _blur(image: Image.Image, sigma: float, _: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(sigma))


def _noise(image: Image.Image, sigma: float, random: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    noisy = pixels + 255 * sigma * random.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8))


def _jpeg(image: Image.Image, quality: float, _: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(quality))
    return Image.open(file).convert(image.mode)


def _brightness(image: Image.Image, added: float, _: np.random.Generator) -> Image.Image:
    """Added to the value of HSV, 0 to 1."""
    hue, saturation, value = image.convert("RGB").convert("HSV").split()
    brighter = value.point(lambda level: min(255, level + 255 * added))
    return Image.merge("HSV", (hue, saturation, brighter)).convert("RGB").convert(image.mode)


def _rotation(image: Image.Image, degrees: float, random: np.random.Generator) -> Image.Image:
    """To the left or to the right; black where nothing was."""
    return image.rotate(degrees * random.choice((-1, 1)), Image.Resampling.BICUBIC)


def _occlusion(image: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """A grey square, of a share of the middle square of the photograph, somewhere in that."""
    whole = min(image.size)
    side = whole * share**0.5
    box = []
    for length in image.size:
        start = (length - whole) / 2 + random.random() * (whole - side)
        box.append((round(start), max(round(start) + 1, round(start + side))))
    (left, right), (top, bottom) = box
    covered = image.copy()
    covered.paste(GREY if image.mode == "L" else (GREY,) * 3, (left, top, right, bottom))
    return covered


CORRUPTIONS = {
    "blur": Corruption(_blur, (1, 2, 3, 4, 6), "sigma in pixels"),
    "noise": Corruption(_noise, (0.08, 0.12, 0.18, 0.26, 0.38), "sigma, white is 1"),
    "jpeg": Corruption(_jpeg, (25, 18, 15, 10, 7), "quality"),
    "brightness": Corruption(_brightness, (0.1, 0.2, 0.3, 0.4, 0.5), "added, white is 1"),
    "rotation": Corruption(_rotation, (6, 12, 18, 24, 30), "degrees"),
    "occlusion": Corruption(_occlusion, (0.08, 0.16, 0.24, 0.32, 0.4), "share covered"),
}
