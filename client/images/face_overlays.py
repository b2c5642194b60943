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
        left, top, right, bottom = face.box
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=BOX, width=edge)
        for x, y in face.landmarks:
            pen.ellipse((x - edge, y - edge, x + edge, y + edge), fill=LANDMARK)
        text = f"{face.score:.2f}"
        tag = pen.textbbox((left + edge, top), text, font, anchor="lb")
        pen.rectangle((tag[0] - edge, tag[1] - edge, tag[2] + edge, tag[3]), fill=BOX)
        pen.text((left + edge, top), text, SCORE, font, anchor="lb")
    return drawing
