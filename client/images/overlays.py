"""Explanations drawn over the images that they are of.

Colours are of viridis, whose lightness grows evenly with the number and which people who see few colours read
as well (Smith and van der Walt, 2015, CC0). Without evidence for the class the photograph stays as it is;
what the model did not see is grey.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..errors import InvalidInput
from ..results import Character
from .fitting import opened
from .inputs import ImageLike

__all__ = ["OPACITY", "Box", "overlay", "text_overlay"]

Box = tuple[float, float, float, float]  # left, top, right and bottom, as shares of width and height

OPACITY = 0.75  # of the strongest place
MAX_SIDE = 2048  # pixels of the drawing; larger photographs are drawn smaller
LEAST_LINE = 40  # pixels; lines of fewer are drawn larger
LEAST_TYPE, MOST_TYPE = (
    12,
    40,
)  # pixels of the characters below a line; half of its own's height between
TYPE_ROOM = 1.4  # of their size
UNSEEN = 0.45  # how bright what the model did not see is
VIRIDIS = (  # at 0, 1/8, 2/8 ... 1
    *((68, 1, 84), (71, 45, 123), (59, 82, 139), (44, 114, 142), (33, 145, 140)),
    *((40, 174, 128), (94, 201, 98), (173, 220, 48), (253, 231, 37)),
)


def overlay(
    image: ImageLike, heatmap: NDArray[np.float32], crop: Box = (0, 0, 1, 1), opacity: float = OPACITY
) -> Image.Image:
    """The upright image, in RGB, with the evidence for a class in colour: at most 2,048 pixels on a side.

        found = vision.explain("cat.jpg")
        overlay("cat.jpg", found.heatmap, found.crop).save("overlay.png")

    heatmap: FP32 [height, width], over the part `crop` of the image; its largest number is the brightest
    colour, and nothing is drawn where it is 0 or less. opacity: of the brightest, 0 to 1.

    Raises InvalidImage, InvalidInput.
    """
    photograph = _prepared(image, opacity)
    box = pixels_of(crop, photograph.size)
    drawing = photograph.convert("L").point(lambda level: level * UNSEEN).convert("RGB")
    drawing.paste(photograph.crop(box), box[:2])
    heat = scaled(heatmap).resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC)
    drawing.paste(coloured(heat), box[:2], heat.point(lambda level: level * opacity))
    if box != (0, 0, *photograph.size):
        ImageDraw.Draw(drawing).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline="white")
    return drawing


def text_overlay(image: ImageLike, characters: Sequence[Character], opacity: float = OPACITY) -> Image.Image:
    """The upright image of a line, in RGB, its characters written below the columns that made them.

        found = vision.explain_text("line.png")
        text_overlay("line.png", found.characters).save("overlay.png")

    The columns of a character are coloured by its confidence: yellow is sure, purple is not.

    Raises InvalidImage, InvalidInput.
    """
    line = _prepared(image, opacity)
    height = _height_of(characters, line.height)
    # Else columns are of four pixels, and letters below them overlap, or are such as nobody could read.
    wanted = max(-(-LEAST_LINE // line.height), -(-2 * LEAST_TYPE // height))
    if (scale := min(wanted, *(MAX_SIDE // side for side in line.size))) > 1:
        line = line.resize((scale * line.width, scale * line.height), Image.Resampling.BICUBIC)
        height *= scale
    size = max(LEAST_TYPE, min(MOST_TYPE, height // 2))
    drawing = Image.new("RGB", (line.width, line.height + round(TYPE_ROOM * size)), "white")
    drawing.paste(line)
    pen, font = ImageDraw.Draw(drawing), ImageFont.load_default(size)
    for character in characters:
        left, top, right, bottom = box = pixels_of(character.box, line.size)
        level = Image.new(
            "L", (right - left, bottom - top), round(255 * min(1, max(0, character.confidence)))
        )
        drawing.paste(coloured(level), box[:2], level.point(lambda _: 255 * opacity))
        pen.text(((left + right) / 2, line.height + size / 8), character.text, "black", font, "ma")
    return drawing


def _height_of(characters: Sequence[Character], height: int) -> int:
    """Pixels from the top of a line's letters to their bottom; of a line without any, of all of it."""
    tops_and_bottoms = [(character.box[1], character.box[3]) for character in characters]
    shares = [bottom - top for top, bottom in tops_and_bottoms if bottom > top]
    return max(1, round(height * float(np.median(shares)))) if shares else height


def _prepared(image: ImageLike, opacity: float) -> Image.Image:
    """The upright image in RGB, no larger than is drawn. Raises InvalidImage, InvalidInput."""
    if not 0 <= opacity <= 1:
        raise InvalidInput(f"opacity is {opacity:g}; it lies between 0 and 1.")
    photograph = opened(image)
    photograph.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return photograph.convert("RGB")


def pixels_of(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box of shares in whole pixels, at least one."""
    left, top = round(box[0] * size[0]), round(box[1] * size[1])
    return left, top, max(left + 1, round(box[2] * size[0])), max(top + 1, round(box[3] * size[1]))


def scaled(heatmap: NDArray[np.float32]) -> Image.Image:
    """As grey levels: 0 for what is 0 or less, 255 for the largest number."""
    positive = np.nan_to_num(np.maximum(heatmap, 0))
    largest = float(positive.max(initial=0))
    return Image.fromarray((positive * (255 / largest if largest else 0)).round().astype(np.uint8))


def coloured(heat: Image.Image) -> Image.Image:
    """Grey levels in the colours of viridis."""
    places = np.linspace(0, 255, len(VIRIDIS))
    table = np.stack(
        [np.interp(np.arange(256), places, channel) for channel in np.transpose(VIRIDIS)], axis=1
    )
    found = Image.fromarray(np.asarray(heat), "P")
    found.putpalette(table.round().astype(np.uint8).tobytes())
    return found.convert("RGB")
