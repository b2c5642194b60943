"""An image of one line of text to what the text networks read: grey, dark on light, 32 rows.

The one definition of those pixels: `read_text` serves it, `training` and `export` make theirs with it. It
needs Pillow and numpy only, and gives the same pixels at every call.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = [
    "HEIGHT",
    "MAX_WIDTH",
    "MIN_WIDTH",
    "Found",
    "LineError",
    "find_line",
    "line_pixels",
    "normalize_line",
]

HEIGHT = 32  # rows that the networks read
MIN_WIDTH = 8  # columns
MAX_WIDTH = 4096  # columns; about 300 characters

MARGIN = 0.1  # kept around the ink, of its height
ANALYSED_HEIGHT = 24  # rows; the line is looked for in a copy of 24 to 47, if the image has more
LEAST_INK_HEIGHT = 12  # rows in that copy; less is too coarse to cut by
COLOUR_GAIN = 1.5  # contrast that a mix of colours must have over luminance, to be preferred
INK_SHARE = 0.3  # of the line's contrast: darker than its surroundings by more is ink
LEAST_CONTRAST = 12  # grey levels; less is an empty image
LITTLE_SHARE = 0.125  # of the height: what is about a pixel, where there is little ink in a large image,
LEAST_MARK, MOST_NOISE = 48, 6  # and how far from it ink is: grey levels, and standard deviations of all
LEAST_SPAN = 32  # grey levels; less contrast is not stretched to all of black and white
BORDER_WEIGHT = 1.25  # of the image's sides beside the skewness, in telling paper from ink
PAPER_COLUMNS = 16  # in which one level of paper is looked for: half the height of the line
PAPER_SHARE = 0.8  # of their pixels are no lighter than the paper
RULE_DARKNESS = 0.65  # of all ink: a row that is as dark on the mean is of a rule, letters have gaps
MOST_RULE_ROWS = 8
NEAR = 0.35  # of the height of the letters: ink further above or below, and little of it, is not the line's
LITTLE = 0.15  # of the ink


class LineError(ValueError):
    """This image cannot be made into a line; the message says why."""


@dataclass(frozen=True)
class Found:
    """Where the ink is: left, top, right and bottom of `image`, which is in mode "L"."""

    image: Image.Image
    box: tuple[int, int, int, int]
    inverted: bool  # light on dark
    origin: tuple[int, int] = (0, 0)  # left and top of `image` in the image that was given


def normalize_line(image: Image.Image) -> NDArray[Any]:
    """Make an image of one line of text ("L" or "RGB", any size) into UINT8 [32, w], dark on light.

    Coloured text is seen by luminance, or, where that has little contrast, by the mix of the colours that
    has most (their first principal component). What there is less of, compared with its surroundings, and at
    the border, is taken for ink, so light text on dark is inverted. Light that falls off along the line is
    evened out; then paper becomes white and ink black by one linear scale. An underline does not count
    there: it is often darker than the text.

    The image is cut to the ink with a margin of a tenth of the ink's height, at most what there is, and
    scaled to 32 rows (bilinear with antialiasing), its aspect kept. The cut goes by the ink, not by the
    font's ascent and descent, although "nose" becomes larger than "nosy" by it: nobody can know the font's
    line from the image of a line, callers' margins are of any size, and this way they do not matter. The
    networks are trained, and legere's were, on lines cut so. Specks, and bits of the lines above and below
    if there is a gap, are cut off where they lie outside the line.

    Returns at least 8 columns; an image without ink gives 32 white ones. Raises `LineError` where the line
    would have more than 4,096 columns.
    """
    return line_pixels(find_line(image))


def find_line(image: Image.Image) -> Found | None:
    """None for an image without ink. See `normalize_line`."""
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    factor = max(1, image.height // ANALYSED_HEIGHT)
    small = image.reduce(factor) if factor > 1 else image
    if image.mode == "RGB":
        mix = _colour_mix(small)
        image, small = image.convert("L", mix), small.convert("L", mix)
    inverted, box = _ink_box(small)
    if box is None:
        little = _little_ink(image)
        return little and _closer(image, little)
    left, top, right, bottom = (edge * factor for edge in box)
    right, bottom = min(right, image.width), min(bottom, image.height)
    if factor > 1 and box[3] - box[1] < LEAST_INK_HEIGHT:
        return _closer(image, (left, top, right, bottom))
    return Found(image, (left, top, right, bottom), inverted)


def line_pixels(found: Found | None) -> NDArray[Any]:
    """UINT8 [32, w] of what was found; white for None. See `normalize_line`."""
    if found is None:
        return np.full((HEIGHT, HEIGHT), 255, np.uint8)
    left, top, right, bottom = found.box
    width = max(MIN_WIDTH, round((right - left) * HEIGHT / (bottom - top)))
    if width > MAX_WIDTH:
        raise LineError(
            f"too long: {right - left} x {bottom - top} pixels of text are {width:,} columns at {HEIGHT} "
            f"rows, the limit is {MAX_WIDTH:,}. Cut the line into parts."
        )
    scaled = found.image.resize((width, HEIGHT), Image.Resampling.BILINEAR, found.box)
    return _stretched(scaled, found.inverted)


def _closer(image: Image.Image, box: tuple[int, int, int, int]) -> Found | None:
    closer = find_line(image.crop(box))
    return closer and replace(closer, origin=(box[0] + closer.origin[0], box[1] + closer.origin[1]))


def _little_ink(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Where there is too little ink to change the image's percentiles: a word on a page; None without.

    Left, top, right and bottom, with as much paper around as it is high. None for most of an image, too.
    """
    around = image.filter(ImageFilter.BoxBlur(max(HEIGHT, round(LITTLE_SHARE * image.height))))
    difference = np.abs(np.asarray(image, np.int16) - np.asarray(around, np.int16))
    least = max(LEAST_MARK, MOST_NOISE * float(difference.std()), int(difference.max()) / 2)
    marks = Image.fromarray(difference >= least).convert("L").filter(ImageFilter.BoxBlur(1))
    box = marks.point(lambda share: 255 * (share > 84)).getbbox()
    if box is None:
        return None
    left, top, right, bottom = box
    margin = max(2, bottom - top)
    left, top = max(0, left - margin), max(0, top - margin)
    right, bottom = min(image.width, right + margin), min(image.height, bottom + margin)
    is_most = 2 * (right - left) * (bottom - top) > image.width * image.height
    return None if is_most else (left, top, right, bottom)


def _colour_mix(image: Image.Image) -> tuple[float, float, float, float] | None:
    """None for luminance, or red, green, blue and offset of the grey with the most contrast, within 0-255."""
    pixels = np.asarray(image, np.float32).reshape(-1, 3)
    pixels -= pixels.mean(0)
    covariance = pixels.T @ pixels
    luminance = np.array([0.299, 0.587, 0.114])
    axis = np.linalg.eigh(covariance)[1][:, 2]
    axis = axis / np.abs(axis).sum()
    axis = axis if axis.sum() >= 0 else -axis
    if axis @ covariance @ axis <= COLOUR_GAIN**2 * (luminance @ covariance @ luminance):
        return None
    return (*axis.tolist(), -255 * float(np.minimum(axis, 0).sum()))


def _ink_box(image: Image.Image) -> tuple[bool, tuple[int, int, int, int] | None]:
    """Whether the text is light on dark, and left, top, right and bottom of the line; None without ink."""
    around = np.asarray(image.filter(ImageFilter.BoxBlur(image.height)), np.int16)
    difference = np.asarray(image, np.int16) - around
    counts = np.bincount((difference + 255).ravel(), minlength=511)
    values = np.arange(-255.0, 256.0)
    values -= counts @ values / difference.size
    inverted = _is_inverted(difference, counts / difference.size, values)
    if inverted:
        difference, counts = -difference, counts[::-1]
    shares = np.cumsum(counts) / difference.size
    darkest, paper = np.searchsorted(shares, (0.01, 0.7)) - 255
    if paper - darkest < LEAST_CONTRAST:
        return inverted, None
    ink = difference < paper - max(INK_SHARE * (paper - darkest), LEAST_CONTRAST / 2)
    if min(image.size) >= 3:  # three of nine neighbours, or it is a speck
        ink = np.asarray(Image.fromarray(ink).convert("L").filter(ImageFilter.BoxBlur(1))) > 84
    rows = np.count_nonzero(ink, 1)
    rows = _without_strays(np.where(rows > max(1, 0.01 * rows.max()), rows, 0))
    occupied_rows = np.flatnonzero(rows)
    if not len(occupied_rows):
        return inverted, None
    top, bottom = int(occupied_rows[0]), int(occupied_rows[-1]) + 1
    columns = np.count_nonzero(ink[top:bottom], 0)
    occupied_columns = np.flatnonzero(columns > 0.02 * columns.max())
    left, right = int(occupied_columns[0]), int(occupied_columns[-1]) + 1
    margin = max(1, round(MARGIN * (bottom - top)))
    return inverted, (
        max(0, left - margin),
        max(0, top - margin),
        min(image.width, right + margin),
        min(image.height, bottom + margin),
    )


def _is_inverted(difference: NDArray[Any], shares: NDArray[Any], values: NDArray[Any]) -> bool:
    """Ink is rarer than paper, and further from the mean; in heavy capitals it is not, but paper is around.

    `shares` of the pixels have `values`, which are those of `difference` from their mean on.
    """
    deviation = float(shares @ values**2) ** 0.5 or 1.0
    sides = [np.median(side) for side in (difference[0], difference[-1], difference[:, 0], difference[:, -1])]
    border = float(np.median(sides)) + values[255]  # an underline may be at one side
    return bool(shares @ values**3 / deviation**3 > BORDER_WEIGHT * border / deviation)


def _without_strays(rows: NDArray[Any]) -> NDArray[Any]:
    """The ink per row without runs of rows that hold little of it, far above or below the rows with most."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], rows > 0, [0]))))
    runs = [(rows[start:end].sum(), start, end) for start, end in edges.reshape(-1, 2)]
    if len(runs) < 2:
        return rows
    most, start, end = max(runs)
    far = NEAR * (end - start)
    kept = np.zeros_like(rows)
    for amount, first, last in runs:
        if amount > LITTLE * most or (first - end <= far and start - last <= far):
            kept[first:last] = rows[first:last]
    return kept


def _stretched(image: Image.Image, inverted: bool) -> NDArray[Any]:
    pixels = np.asarray(image)
    if inverted:
        pixels = 255 - pixels
    difference = pixels - np.rint(_paper(pixels)).astype(np.int16)
    ink, paper = _levels(difference)
    rules = difference.mean(1) < paper - RULE_DARKNESS * (paper - ink)
    if 0 < np.count_nonzero(rules) <= MOST_RULE_ROWS:
        rules[1:-1] |= rules[:-2] | rules[2:]  # and its edges
        ink, _ = _levels(difference[~rules])
    span = max(paper - ink, LEAST_SPAN)
    levels = np.clip(255 - (paper - np.arange(-255, 256)) * 255 / span, 0, 255)
    return np.rint(levels).astype(np.uint8)[difference + 255]


def _paper(pixels: NDArray[Any]) -> NDArray[Any]:
    """The grey of the paper along the line, [w]."""
    height, width = pixels.shape
    count = -(-width // PAPER_COLUMNS)
    whole = np.pad(pixels, ((0, 0), (0, count * PAPER_COLUMNS - width)), "edge")
    blocks = whole.reshape(height, count, PAPER_COLUMNS).swapaxes(0, 1).reshape(count, -1)
    rank = int(PAPER_SHARE * blocks.shape[1])
    paper = np.pad(np.partition(blocks, rank, 1)[:, rank].astype(float), 1, "edge")
    paper = (paper[:-2] + 2 * paper[1:-1] + paper[2:]) / 4
    return np.interp(np.arange(width), (np.arange(count) + 0.5) * PAPER_COLUMNS - 0.5, paper)


def _levels(difference: NDArray[Any]) -> tuple[float, float]:
    """Of ink and paper, in INT16 from -255 to 255."""
    shares = np.cumsum(np.bincount(difference.ravel() + 255, minlength=511)) / difference.size
    ink, paper = np.searchsorted(shares, (0.02, 0.7)) - 255.0
    return ink, paper
