"""Generated lines: text drawn in a font, degraded, and made into 32 rows as the server does it.

A line depends on its source's split, the seed and its number alone, so a stream can go on where it stopped.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from export.model_code.line_image import normalize_line
from training.lines.degrade import degrade, thinned
from training.lines.fonts import Face, faces, open_font
from training.lines.text import KINDS, TextSource

__all__ = ["HEIGHT", "GeneratedLine", "LineSource", "render"]

HEIGHT = 32
KIND_SHARES = (0.37, 0.20, 0.23, 0.11, 0.09)  # of KINDS, in training
SERIF_WEIGHT = 1.6  # of a serif or slab family in training, where there are fewer than in print
THINNED_SHARE = 0.2  # of the training lines
SIZES = {  # pixels per em
    "clean": (19, 22, 26, 30, 36, 44, 54),
    "degraded": (13, 16, 19, 22, 26, 30, 36, 44, 54),
}
MOST_COLUMNS = 1200
SPLIT_NUMBERS = {"training": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class GeneratedLine:
    """`pixels` is UINT8 [32, w], what the networks read; `image` is what the camera saw ("L")."""

    pixels: NDArray[Any]
    text: str
    image: Image.Image
    face: Face
    kind: str


class LineSource:
    """The lines of one split: its families and its words."""

    def __init__(self, split: str, seed: int) -> None:
        self.split, self.seed = split, seed
        self._faces = faces(split)
        self._texts = TextSource(split)
        weights = [SERIF_WEIGHT if family[0].kind in ("serif", "slab") else 1 for family in self._faces]
        self._family_shares = np.array(weights) / sum(weights)

    def line(self, number: int, level: str, kind: str | None = None, longest: int = 60) -> GeneratedLine:
        """Line `number`, the same one every time; None as kind: any, by their shares in training."""
        random = np.random.default_rng((self.seed, SPLIT_NUMBERS[self.split], number))
        chosen = kind or KINDS[random.choice(len(KINDS), p=KIND_SHARES)]
        training = self.split == "training"  # the lines of the other splits stay as they are
        family = self._faces[
            random.choice(len(self._faces), p=self._family_shares)
            if training
            else random.integers(len(self._faces))
        ]
        face = family[random.integers(len(family))]
        for _ in range(20):
            text = self._texts.draw(chosen, random, longest)
            ink = render(text, face, level, random)
            if training and random.random() < THINNED_SHARE:
                ink = thinned(ink, random)
            image = degrade(ink, level, random)
            pixels = self._framed(image, random)
            if 8 <= pixels.shape[1] <= MOST_COLUMNS and _steps_needed(text) <= pixels.shape[1] // 4:
                return GeneratedLine(pixels, text, image, face, chosen)
        raise AssertionError(
            f"20 texts of kind {chosen} in {face.name} do not fit into {MOST_COLUMNS} columns"
        )

    def _framed(self, image: Image.Image, random: np.random.Generator) -> NDArray[Any]:
        """As the server cuts it; in training a third has other margins, as cutting may go wrong."""
        pixels = normalize_line(image)
        if self.split != "training" or random.random() < 0.65:
            return pixels
        above, below = random.uniform(0, 5, 2)
        width = max(8, round(pixels.shape[1] * HEIGHT / (HEIGHT + above + below)))
        padded = Image.fromarray(np.pad(pixels, ((6, 6), (0, 0)), "edge"))
        box = (0, 6 - above, pixels.shape[1], 6 + HEIGHT + below)
        return np.asarray(padded.resize((width, HEIGHT), Image.Resampling.BILINEAR, box))


def render(text: str, face: Face, level: str, random: np.random.Generator) -> Image.Image:
    """The text as ink ("L": 255 is ink) with margins of up to a third of the size, tracked now and then."""
    size = int(random.choice(SIZES[level]))
    font = open_font(face, size)
    margins = random.integers(1, 2 + size // 3, 4)
    if random.random() < 0.12:
        ink = _tracked(text, font, float(random.uniform(-0.03, 0.14)) * size)
    else:
        mask = font.getmask(text, "L")
        ink = np.frombuffer(bytes(mask), np.uint8).reshape(mask.size[::-1])
    return Image.fromarray(np.pad(ink, (tuple(margins[:2]), tuple(margins[2:]))))


def _tracked(text: str, font: ImageFont.FreeTypeFont, tracking: float) -> NDArray[Any]:
    """With more or less space between all letters, in pixels."""
    advances = [font.getlength(character) + tracking for character in text]
    _, top, _, bottom = font.getbbox(text)
    margin = round(font.size / 2)  # letters may reach beyond their advance
    ink = Image.new("L", (int(sum(advances)) + 2 * margin, round(bottom - top)), 0)
    draw, x = ImageDraw.Draw(ink), float(margin)
    for character, advance in zip(text, advances, strict=True):
        draw.text((x, -top), character, 255, font)
        x += advance
    return np.asarray(ink)


def _steps_needed(text: str) -> int:
    """CTC needs a step per character and one more between equal neighbours."""
    return len(text) + sum(a == b for a, b in pairwise(text)) + 1
