"""Faces drawn over the photograph that they were found in."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import Image, ImageDraw, ImageFont

from ..results import Face
from .fitting import opened
from .inputs import ImageLike

__all__ = ["face_overlay"]

BOX, SCORE, LANDMARK = "#ffd400", "black", "#00e5ff"
EDGE = 0.003  # of the photograph's longer side: the width of a line
TEXT = 0.016


def face_overlay(image: ImageLike, faces: Iterable[Face]) -> Image.Image:
    """The upright photograph in RGB, with a box, a score and five landmarks for each face.

        found = vision.detect_faces("group.jpg")
        face_overlay("group.jpg", found.faces).save("overlay.png")

    Raises InvalidImage.
    """
    drawing = opened(image).convert("RGB")
    pen = ImageDraw.Draw(drawing)
    edge = max(2, round(EDGE * max(drawing.size)))
    font = ImageFont.load_default(size=max(11, round(TEXT * max(drawing.size))))
    for face in faces:
        left, top, *_ = box = _within(face.box, drawing.size)
        pen.rectangle(box, outline=BOX, width=edge)
        for x, y in face.landmarks:
            pen.ellipse((x - edge, y - edge, x + edge, y + edge), fill=LANDMARK)
        text = f"{face.score:.2f}"
        _, _, width, height = pen.textbbox((0, 0), text, font, anchor="lt")
        width, height = width + 2 * edge, height + 2 * edge
        x = max(0, min(left, drawing.width - width))
        y = top - height if top >= height else min(top, drawing.height - height)  # inside, at the upper edge
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=BOX)
        pen.text((x + edge, y + edge), text, SCORE, font, anchor="lt")
    return drawing


def _within(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The part of it that lies in the photograph, which it may reach beyond."""
    (left, right), (top, bottom) = (
        [min(max(0.0, side), last) for side in sides]
        for sides, last in ((box[::2], size[0] - 1), (box[1::2], size[1] - 1))
    )
    return left, top, max(left, right), max(top, bottom)
