"""Faces drawn over the photograph that they were found in."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import Image

from ..results import Face
from .boxes import BoxPen
from .fitting import opened
from .inputs import ImageLike

__all__ = ["face_overlay"]

BOX, SCORE, LANDMARK = "#ffd400", "black", "#00e5ff"


def face_overlay(image: ImageLike, faces: Iterable[Face]) -> Image.Image:
    """The upright photograph in RGB, with a box, a score and five landmarks for each face.

        found = vision.detect_faces("group.jpg")
        face_overlay("group.jpg", found.faces).save("overlay.png")

    Raises InvalidImage.
    """
    drawing = opened(image).convert("RGB")
    pen = BoxPen(drawing)
    for face in faces:
        for x, y in face.landmarks:
            pen.pen.ellipse((x - pen.edge, y - pen.edge, x + pen.edge, y + pen.edge), fill=LANDMARK)
        pen.box(face.box, f"{face.score:.2f}", BOX, SCORE)
    return drawing
