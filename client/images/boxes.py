"""Boxes with a word on them, drawn over a photograph."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

__all__ = ["BoxPen"]

EDGE = 0.003  # of the photograph's longer side: the width of a line
TEXT = 0.016

Box = tuple[float, float, float, float]


class BoxPen:
    """Draws on one photograph, in RGB; lines and letters are as large as suits it.

    edge: the width of a line, in pixels
    """

    def __init__(self, drawing: Image.Image) -> None:
        self.pen = ImageDraw.Draw(drawing)
        self.edge = max(2, round(EDGE * max(drawing.size)))
        self._size = drawing.size
        self._font = ImageFont.load_default(size=max(11, round(TEXT * max(drawing.size))))

    def box(self, box: Box, text: str, colour: str, ink: str) -> None:
        """Left, top, right and bottom in pixels, and a tag on the box: below its top where there is no room
        above it. What reaches beyond the photograph is drawn at its edge."""
        wide, high = self._size
        left, top, *_ = box = self._within(box)
        self.pen.rectangle(box, outline=colour, width=self.edge)
        _, _, width, height = self.pen.textbbox((0, 0), text, self._font, anchor="lt")
        width, height = width + 2 * self.edge, height + 2 * self.edge
        x = max(0, min(left, wide - width))
        y = top - height if top >= height else min(top, high - height)
        self.pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        self.pen.text((x + self.edge, y + self.edge), text, ink, self._font, anchor="lt")

    def _within(self, box: Box) -> Box:
        (left, right), (top, bottom) = (
            [min(max(0.0, side), last - 1) for side in sides]
            for sides, last in ((box[::2], self._size[0]), (box[1::2], self._size[1]))
        )
        return left, top, max(left, right), max(top, bottom)
