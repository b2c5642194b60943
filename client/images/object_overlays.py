"""What was found in a photograph, drawn over it.

Colours are those of Okabe and Ito (2008), which people who see few colours tell apart as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from PIL import Image

from ..results import Detection
from .boxes import BoxPen
from .fitting import opened
from .inputs import ImageLike

__all__ = ["detection_overlay"]

# of a box, and of the letters on it; a class keeps its own in every photograph
COLOURS = (
    *(("#e69f00", "black"), ("#56b4e9", "black"), ("#009e73", "white"), ("#f0e442", "black")),
    *(("#0072b2", "white"), ("#d55e00", "white"), ("#cc79a7", "black")),
)


def detection_overlay(image: ImageLike, objects: Iterable[Detection]) -> Image.Image:
    """The upright photograph in RGB, with a box, a label and a score for each thing in it; the best on top.

        found = vision.detect("street.jpg")
        detection_overlay("street.jpg", found.objects).save("boxes.png")

    Raises InvalidImage.
    """
    drawing = opened(image).convert("RGB")
    pen = BoxPen(drawing)
    for one in reversed(list(objects)):
        colour, ink = COLOURS[one.index % len(COLOURS)]
        pen.box(one.box, f"{one.label} {one.score:.2f}", colour, ink)
    return drawing
