"""An image of a line of text to the columns that a line-scan camera would give of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .fitting import opened
from .inputs import ImageLike

__all__ = ["line_columns"]

HEIGHT = 32
MARGIN = 0.1  # around the ink, of its height
INK = 0.4  # of the contrast: darker than paper by more is ink
LEAST_CONTRAST = 32  # grey levels; less is not stretched any further


def line_columns(image: ImageLike, inverted: bool | None = None) -> NDArray[np.uint8]:
    """UINT8 [32, w] for `TextStream.send`: grey, dark on light, cut to the ink and scaled to 32 rows.

    Takes what `VisionClient.read_text` takes. For evenly lit lines: unlike `read_text`, which does this on
    the server and takes worse ones, it knows one paper and one ink. inverted: the text is light on dark;
    None: it is if the border is darker than the rest. An image without ink is white, [32, 32]. Raises
    InvalidImage.
    """
    grey = np.asarray(opened(image).convert("L"), np.uint8)
    if inverted is None:
        border = np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))
        inverted = np.median(border) < grey.mean()
    if inverted:
        grey = np.uint8(255) - grey
    darkest, paper = np.percentile(grey, (1, 70))
    scale = 255 / max(paper - darkest, LEAST_CONTRAST)
    grey = np.clip(255 - (paper - grey) * scale, 0, 255).astype(np.uint8)
    ink = grey < 255 * (1 - INK)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        return np.full((HEIGHT, HEIGHT), 255, np.uint8)
    margin = max(1, round(MARGIN * (rows[-1] + 1 - rows[0])))
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    cut = Image.fromarray(grey[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin])
    width = max(1, round(cut.width * HEIGHT / cut.height))
    return np.asarray(cut.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.uint8)
