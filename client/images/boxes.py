"""Boxes with a word on them, drawn over a photograph."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

__all__ = ["BoxPen"]

EDGE = 0.003  # of the photograph's longer side: the width of a line
TEXT = 0.016


class BoxPen:
    """Draws on one photograph, in RGB; lines and letters are as large as suits it.

    edge: the width of a line, in pixels
    """

    def __init__(self, drawing: Image.Image) -> None:
        self.pen = ImageDraw.Draw(drawing)
        self.edge = max(2, round(EDGE * max(drawing.size)))
        self._font = ImageFont.load_default(size=max(11, round(TEXT * max(drawing.size))))

    def box(
        self, box: tuple[float, float, float, float], text: str, colour: str, ink: str, inside: bool = False
    ) -> None:
        """Left, top, right and bottom in pixels, and a tag on the box; inside: below its top where there is
        no room above it."""
        left, top, right, bottom = box
        self.pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=self.edge)
        place, anchor = (left + self.edge, top), "lb"
        tag = self.pen.textbbox(place, text, self._font, anchor=anchor)
        if inside and tag[1] < self.edge:
            place, anchor = (left + 2 * self.edge, top + 2 * self.edge), "la"
            tag = self.pen.textbbox(place, text, self._font, anchor=anchor)
        self.pen.rectangle((tag[0] - self.edge, tag[1] - self.edge, tag[2] + self.edge, tag[3]), fill=colour)
        self.pen.text(place, text, ink, self._font, anchor=anchor)
