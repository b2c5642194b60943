"""A clean page to its lines of text, in reading order, for the models that read one line at a time.

For pages as they are printed, scanned or drawn: ink on paper, upright or askew by a few degrees, in one or
more columns. Not for photographs of bent pages, nor for forms and tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ...errors import InvalidImage
from ..fitting import opened
from ..inputs import ImageLike
from .layout import SIDEWAYS, what_else

__all__ = ["page_lines"]

LONGEST_SIDE = 4000  # pixels; larger pages are made smaller before their lines are looked for
LEAST_CONTRAST = 32  # grey levels between ink and paper,
MOST_NOISE = 3  # and so many standard deviations of the paper's
DARKEST = 0.1  # of the pixels that differ by so much: the level of the ink
INK = 0.4  # of the contrast: darker than paper by more is ink
NEIGHBOURS = 3  # of nine pixels, itself among them, that are ink about one that counts
MOST_SKEW, SKEW_STEPS = 4.0, (0.5, 0.1)  # degrees
SKEW_COLUMNS = 500  # of the copy by which it is found
LEAST_LINE, DIRT = 6, 0.15  # rows, and of a line's height; what is lower is dirt,
SPECK = (
    0.003  # and rows with so little ink together, of the square of that height: a dot has three times that
)
SPARSE = 0.04  # of the ink of a strip's full rows: a row with less does not tell how high lines are
RULE = 5  # lines' heights: ink so high is a rule or an edge
FAINT, THIN = 0.004, 0.05  # of a column's height, and of a line's: less ink than both is white
GUTTER = 1.5  # of a line's height: white so wide, down the whole of several lines, parts columns
ACCENT = 0.4  # of a line's height: what is lower, and nearer to a line than
NEAR = 0.35  # of the height, belongs to it: accents, underlines, the dots of letters
JOINED = 1.7  # of a line's height: what is higher may be lines that touch,
WAIST = 0.25  # if it has rows between them with so much less ink than their own
MARGIN, LEAST_MARGIN = 0.2, 3  # of a line's height, and pixels, around it
NO_LINES = "no lines of text were found on this page."

Box = tuple[int, int, int, int]  # left, top, right, bottom


def page_lines(page: ImageLike) -> list[Image.Image]:
    """The lines from top to bottom, one column after the other from left to right; grey, dark on light.

    Raises InvalidImage for what is no image, for a page without lines, and for one turned by 90 degrees.
    """
    grey = opened(page).convert("L")
    if max(grey.size) > LONGEST_SIDE:
        grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    grey = _dark_on_light(grey)
    ink = _ink(grey)
    if ink is not None and what_else(grey.crop(_extent(ink)), False) == SIDEWAYS:
        raise InvalidImage("the text runs sideways: turn the page upright.")
    if ink is not None and (angle := _skew(ink)):
        grey = grey.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
        ink = _ink(grey)
    if ink is None:
        raise InvalidImage(NO_LINES)
    line = _line_height(ink)
    boxes = list(_boxes(_without_rules(ink, line), (0, 0, grey.width, grey.height), line))
    if not boxes:
        raise InvalidImage(NO_LINES)
    return [_cut(grey, box, room) for box, room in boxes]


def _dark_on_light(grey: Image.Image) -> Image.Image:
    """Paper is what there is most of; its level becomes white, so that fading light does not count."""
    pixels = np.asarray(grey, np.int16)
    if np.median(pixels) < (int(pixels.min()) + int(pixels.max())) / 2:
        pixels = 255 - pixels
    light = Image.fromarray(pixels.astype(np.uint8))
    factor = max(1, min(light.size) // 64)
    paper = light.reduce(factor).filter(ImageFilter.MaxFilter(9)).filter(ImageFilter.BoxBlur(4))
    behind = np.asarray(paper.resize(light.size, Image.Resampling.BILINEAR), np.int16)
    return Image.fromarray(np.clip(pixels + (255 - behind), 0, 255).astype(np.uint8))


def _ink(grey: Image.Image) -> NDArray[np.bool_] | None:
    """BOOL [rows, columns], or None for a page without; told by its level, however little there is of it."""
    counts = np.asarray(grey.histogram())
    shares = np.cumsum(counts) / counts.sum()
    dim, paper = (int(np.searchsorted(shares, share)) for share in (0.3, 0.5))
    noise = (paper - dim) / 0.524  # as in a normal distribution
    certain = np.cumsum(counts[: max(0, math.ceil(paper - max(LEAST_CONTRAST, MOST_NOISE * noise)))])
    if not len(certain) or not certain[-1]:
        return None
    darkest = int(np.searchsorted(certain, DARKEST * certain[-1]))
    ink = Image.fromarray(np.asarray(grey) < 255 - INK * (255 - darkest)).convert("L")
    around = np.asarray(ink.filter(ImageFilter.BoxBlur(1)))
    return (np.asarray(ink) > 0) & (around > 255 * (NEIGHBOURS - 0.5) / 9)


def _extent(ink: NDArray[np.bool_]) -> Box:
    """Of all ink."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        return 0, 0, ink.shape[1], ink.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _skew(ink: NDArray[np.bool_]) -> float:
    """Degrees, counter-clockwise, by which to turn the page, so that its rows are fullest and emptiest."""
    small = Image.fromarray(ink).convert("L")
    small.thumbnail((SKEW_COLUMNS, 2 * SKEW_COLUMNS))

    def sharpness(angle: float) -> float:
        rows = np.asarray(small.rotate(angle, Image.Resampling.BILINEAR)).sum(1, dtype=np.float64)
        return float(np.square(np.diff(rows)).sum())

    best, reach = 0.0, MOST_SKEW
    for step in SKEW_STEPS:
        count = round(reach / step)
        best = max((best + step * number for number in range(-count, count + 1)), key=sharpness)
        reach = step
    return best if sharpness(best) > 1.05 * sharpness(0.0) else 0.0


def _runs(occupied: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], occupied, [False]))))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _line_height(ink: NDArray[np.bool_]) -> float:
    """Of most lines, in strips of the page, as columns beside each other may not share their rows."""
    heights: list[int] = []
    for strip in np.array_split(ink, 8, axis=1):
        amounts = np.count_nonzero(strip, 1)
        full = np.percentile(amounts[amounts > 0], 90) if amounts.any() else 0
        runs = _runs(amounts > SPARSE * full)
        heights += [end - start for start, end in runs if end - start >= LEAST_LINE]
    # lines without ascenders or descenders are half as high as others
    return float(np.percentile(heights, 80)) if heights else float(LEAST_LINE)


def _without_rules(ink: NDArray[np.bool_], line: float) -> NDArray[np.bool_]:
    """Without what is higher than any letter: rules between columns, the edges of a scan."""
    columns = np.pad(ink.T, ((0, 0), (1, 1))).ravel()
    for start, end in _runs(columns):
        if end - start >= RULE * line:
            columns[start:end] = False
    return columns.reshape(ink.shape[1], -1)[:, 1:-1].T


def _boxes(ink: NDArray[np.bool_], box: Box, line: float) -> Iterator[tuple[Box, Box]]:
    """Of the lines within a box, in reading order: by columns, else above and below the widest gap.

    With each the room that it has up to its neighbours.
    """
    left, top, right, bottom = box
    part = ink[top:bottom, left:right]
    rows = _lines(part, line)
    if len(rows) > 1 and (gutters := _gutters(part, rows[0][0], rows[-1][1], line)):
        for start, end in pairwise([0, *gutters, right - left]):
            yield from _boxes(ink, (left + start, top, left + end, bottom), line)
    elif any(_gutters(part, above[0], below[1], line) for above, below in pairwise(rows)):
        widest = max(range(len(rows) - 1), key=lambda number: rows[number + 1][0] - rows[number][1])
        cut = top + (rows[widest][1] + rows[widest + 1][0]) // 2
        yield from _boxes(ink, (left, top, right, cut), line)
        yield from _boxes(ink, (left, cut, right, bottom), line)
    else:
        middles = [(above[1] + below[0]) // 2 for above, below in pairwise(rows)]
        for (start, end), room in zip(rows, pairwise([0, *middles, bottom - top]), strict=True):
            columns = np.flatnonzero(part[start:end].any(0))
            if end - start >= max(LEAST_LINE, DIRT * line) and len(columns):
                yield (
                    (left + int(columns[0]), top + start, left + int(columns[-1]) + 1, top + end),
                    (left, top + room[0], right, top + room[1]),
                )


def _gutters(part: NDArray[np.bool_], top: int, bottom: int, line: float) -> list[int]:
    """The middles of the white that parts columns between these rows."""
    columns = _runs(np.count_nonzero(part[top:bottom], 0) > min(FAINT * (bottom - top), THIN * line))
    gaps = [(end, start) for (_, end), (start, _) in pairwise(columns)]
    return [(end + start) // 2 for end, start in gaps if start - end > GUTTER * line]


def _lines(part: NDArray[np.bool_], line: float) -> list[tuple[int, int]]:
    """Rows of lines, from runs of rows with ink: accents are joined to them, and lines that touch parted."""
    whole: list[tuple[int, int]] = []
    amounts = np.count_nonzero(part, 1)
    for start, end in _runs(amounts > 0):
        if amounts[start:end].sum() < SPECK * line**2:
            continue
        is_near = bool(whole) and start - whole[-1][1] < NEAR * line
        is_part = end - start < ACCENT * line or (whole and whole[-1][1] - whole[-1][0] < ACCENT * line)
        if is_near and is_part:
            whole[-1] = (whole[-1][0], end)
        else:
            whole.append((start, end))
    return [part_of for start, end in whole for part_of in _parted(start, end, part, line)]


def _parted(start: int, end: int, part: NDArray[np.bool_], line: float) -> list[tuple[int, int]]:
    """Lines that touch, at the rows with least ink about where each should end."""
    count = round((end - start) / line) if end - start > JOINED * line else 1
    amounts = np.count_nonzero(part[start:end], 1)
    cuts = [0]
    for number in range(1, count):
        near, reach = round((end - start) * number / count), round(line / 3)
        low, high = max(cuts[-1] + 1, near - reach), min(end - start, near + reach + 1)
        if low < high and amounts[low:high].min() < WAIST * np.percentile(amounts, 75):
            cuts.append(low + int(np.argmin(amounts[low:high])))
    return [(start + low, start + high) for low, high in pairwise([*cuts, end - start])]


def _cut(grey: Image.Image, box: Box, room: Box) -> Image.Image:
    """With what is around it, the faint edges of letters too, and white where that is its neighbours'."""
    left, top, right, bottom = box
    margin = max(LEAST_MARGIN, round(MARGIN * (bottom - top)))
    around = (
        *(max(left - margin, room[0]), max(top - margin, room[1])),
        *(min(right + margin, room[2]), min(bottom + margin, room[3])),
    )
    line = Image.new("L", (right - left + 2 * margin, bottom - top + 2 * margin), 255)
    line.paste(grey.crop(around), (around[0] - left + margin, around[1] - top + margin))
    return line
