"""Whether what was found in an image is one line of text that runs from left to right.

It knows where the line is (`line_image.py`), and nothing of what is written there. The ink is looked at in
strips side by side, in each of which a line is a run of rows with ink, so that a page may be a little bent or
askew. What it says is meant to be right: of what is doubtful it says nothing. It needs Pillow and numpy only.

A model and the client hold copies of this file: edit it in export/model_code, then run
`python -m export copies`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["SEVERAL", "SIDEWAYS", "what_else"]

SEVERAL, SIDEWAYS = "several lines", "sideways"

WIDE = 3  # a box so much wider than high is looked at closely only if there may be a gap across it
GAP = 0.25  # of the ink of the rows above and below: less is a gap, perhaps
GAP_SIDES = 0.3  # of the ink of the row with most, that the rows above and below a gap must have
SHORT_SIDE, LONG_SIDE = 640, 1536  # pixels at most, of the copy that is looked at
INK_SHARE = 0.35  # of the contrast: darker than its surroundings by more is ink
LEAST_CONTRAST = 24  # grey levels; less is no text that could be told apart
STRIPS = (6, 3, 1)  # side by side
STRIP_WIDTH = 1.5  # of the height of its lines, at least
SPECK = 0.04  # of the ink of a strip's fullest rows: a row with less holds none
LEAST_ROWS = 5  # of a line
LEAST_HEIGHT = 0.5  # of the tallest line: what is lower is an accent, a rule, or the edge of another line
LEAST_INK = 0.3  # of the line with most; less of either is a line if it has letters and room around it
LEAST_PITCH = 0.28  # of the distance to the next line: what is lower, of few strokes, is no line, but dots
LEAST_STROKES = 3  # of a line in one strip, each narrower than
WIDEST_STROKE = 1.2  # of the line's height
LETTERS = 6  # strokes of a whole line; fewer are one letter's
LONGER = 3  # times the strokes of the lines across: lines of which there are about as many
TALL = 1.5  # a box so much higher than wide may hold one such line
LEAST_MARK = 0.3  # of the height of the tallest mark
STACKED = 4  # marks above one another: letters of such a line; a character has up to three
APART, LETTER = (
    0.4,
    1.5,
)  # of the box's width: marks so far from each other, none so high, are lines of one letter


def what_else(image: Image.Image, inverted: bool) -> str | None:
    """SEVERAL or SIDEWAYS; None for what may be one line. Of an image in mode "L", cut to the ink."""
    is_wide = image.width >= WIDE * image.height
    if is_wide and not _may_have_gaps(image, inverted):
        return None
    ink = _ink(image, inverted)
    if ink is None:
        return None
    lines, strokes = _lines(ink)
    if is_wide:
        return SEVERAL if lines > 1 else None
    turned, turned_strokes = _lines(ink.T)
    are_more = turned > lines and turned_strokes >= strokes
    are_longer = turned >= lines / 2 and turned_strokes >= LONGER * strokes
    if turned > 1 and turned_strokes >= LETTERS and (are_more or are_longer):
        return SIDEWAYS
    if image.height >= TALL * image.width and strokes < LETTERS:
        marks, gap, highest = _marks(ink)
        if marks >= STACKED - 1 and gap >= APART * len(ink.T) and highest <= LETTER * len(ink.T):
            return SEVERAL
        if marks >= STACKED or (turned and turned_strokes >= LETTERS):
            return SIDEWAYS  # one line: the rows are its letters
    return SEVERAL if lines > 1 else None


def _may_have_gaps(image: Image.Image, inverted: bool) -> bool:
    """Whether rows with little ink lie between rows with more, in two of the strips at least."""
    cell = (max(1, image.width // STRIPS[0]), max(1, image.height // 64))
    light = np.asarray(image.reduce(cell), np.float32)
    light = 255 - light if inverted else light
    ink = light.max(0) - light
    around = np.minimum(np.maximum.accumulate(ink), np.maximum.accumulate(ink[::-1])[::-1])
    gaps = (ink < GAP * around) & (around > GAP_SIDES * ink.max(0))
    return bool(np.count_nonzero(gaps.any(0)) >= min(2, ink.shape[1]))


def _ink(image: Image.Image, inverted: bool) -> NDArray[Any] | None:
    """BOOL [rows, columns], of a smaller copy; None without contrast."""
    factor = max(1, -(-min(image.size) // SHORT_SIDE), -(-max(image.size) // LONG_SIDE))
    small = image.reduce(factor) if factor > 1 else image
    around = small.filter(ImageFilter.BoxBlur(max(8, min(small.size) // 6)))
    difference = np.asarray(small, np.int16) - np.asarray(around, np.int16)
    if inverted:
        difference = -difference
    shares = np.cumsum(np.bincount(difference.ravel() + 255, minlength=511)) / difference.size
    darkest, paper = (int(level) - 255 for level in np.searchsorted(shares, (0.02, 0.8)))
    if paper - darkest < LEAST_CONTRAST:
        return None
    return difference < paper - INK_SHARE * (paper - darkest)


def _lines(ink: NDArray[Any]) -> tuple[int, int]:
    """How many lines a third of the strips hold, of those that hold any, and the strokes of one along all.

    In strips that are narrow for the height of their lines a colon would be two; there are fewer then.
    """
    for count in STRIPS:
        found = [_lines_of(strip) for strip in np.array_split(ink, count, axis=1)]
        strokes = sum(strip.strokes for strip in found)
        counts = sorted(
            1 if strip.is_low and strokes < LETTERS else strip.lines
            for strip in found
            if strip.lines and strip.height * STRIP_WIDTH < len(ink.T) / count
        )
        if len(counts) * 2 >= count:
            return counts[2 * len(counts) // 3], strokes
    return (1, strokes) if found[0].lines else (0, 0)


def _marks(ink: NDArray[Any]) -> tuple[int, float, int]:
    """Runs of rows with ink, but for specks; rows from most of them to the next, and of the highest."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], ink.any(1), [False])))).reshape(-1, 2)
    heights = edges[:, 1] - edges[:, 0]
    if not len(heights):
        return 0, 0.0, 0
    edges = edges[heights >= LEAST_MARK * heights.max()]
    gaps = edges[1:, 0] - edges[:-1, 1]
    return len(edges), float(np.median(gaps)) if len(gaps) else 0.0, int(heights.max())


class _Strip(NamedTuple):
    lines: int = 0
    strokes: int = 0  # of one of them
    height: int = 0  # of the tallest, in rows
    is_low: bool = False  # for the distance between them


def _lines_of(strip: NDArray[Any]) -> _Strip:
    amounts = np.count_nonzero(strip, 1)
    occupied = amounts > max(1, SPECK * np.percentile(amounts, 95))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], occupied, [False])))).reshape(-1, 2)
    heights = edges[:, 1] - edges[:, 0]
    room = np.diff(np.concatenate(([0], edges.ravel(), [len(strip)])))[::2]  # above each, and below the last
    strokes = np.count_nonzero(strip & ~np.pad(strip, ((0, 0), (1, 0)))[:, :-1], 1)
    runs = []
    for number, ((start, end), height) in enumerate(zip(edges.tolist(), heights.tolist(), strict=True)):
        pieces, amount = int(strokes[start:end].max()), int(amounts[start:end].sum())
        if (
            height >= LEAST_ROWS
            and pieces >= LEAST_STROKES
            and amount <= WIDEST_STROKE * height * int(strokes[start:end].sum())
        ):
            is_apart = pieces >= LETTERS and min(room[number : number + 2]) >= height
            runs.append((start, height, amount, pieces, is_apart))
    if not runs:
        return _Strip()
    tallest, most = max(run[1] for run in runs), max(run[2] for run in runs)
    runs = [
        run for run in runs if run[4] or (run[1] >= LEAST_HEIGHT * tallest and run[2] >= LEAST_INK * most)
    ]
    pieces = int(np.median([run[3] for run in runs]))
    pitch = np.median(np.diff([run[0] for run in runs])) if len(runs) > 1 else 0
    is_low = bool(np.median([run[1] for run in runs]) < LEAST_PITCH * pitch)
    return _Strip(len(runs), pieces, tallest, is_low)
