"""Pixels for the networks that find faces: a photograph at many sizes, tiles of those, and parts of it.

Resized is by area, as `facenet-pytorch` 2.6.0 does (PyTorch calls it adaptive average pooling): pixel i
of m, made of n, is the mean of those from floor(i n / m) up to ceil((i + 1) n / m), so neighbours may share
one. Made larger, pixels repeat.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_FACE", "Areas", "scales", "tiles"]

Floats = NDArray[np.float32]

WINDOW, STRIDE = 12, 2  # pixels: a side of what the first network looks at, and from one to the next
LEAST_FACE = WINDOW  # pixels of a side; smaller ones would need a photograph made larger
SCALE_STEP = 0.709  # from one level of the pyramid to the next: about half the area
LARGEST_LEVEL = 4_500_000  # pixels; the first one of 12.5 megapixels in which faces of 20 pixels are sought


def scales(height: int, width: int, least_face: float) -> list[float]:
    """Of the levels of a photograph's pyramid, the largest first: at the first one, faces of `least_face`
    pixels fill a window; the last one is as high, or as wide, as one.

    Levels beyond `LARGEST_LEVEL` are left out, so that a photograph's time is bounded: the smallest faces of
    a larger one are not found, and the others as ever.
    """
    scale, shorter = WINDOW / least_face, min(height, width) * (WINDOW / least_face)
    found = []
    while shorter >= WINDOW:
        if height * width * scale**2 <= LARGEST_LEVEL:
            found.append(scale)
        scale, shorter = scale * SCALE_STEP, shorter * SCALE_STEP
    return found


def tiles(size: int, most: int) -> tuple[int, list[tuple[int, int]]]:
    """How to cut one side of a level, in `size` pixels, into tiles of one size up to `most`.

    Returns that size, and of each tile the windows that it answers for, from the first up to the last, not
    included; it begins at twice the first. Together the tiles answer as the level would whole: the network
    joins pixels in pairs, so a tile begins at an even one and is as odd as the level is, and the last window
    of an odd one is right only where the level ends, too.
    """
    count, rows, tile = 1, _windows(size), size
    if size > most:
        tile = most - (size - most) % 2
        count = 1 - (_windows(tile) - rows) // _whole_windows(tile)
        while (count - 1) * _whole_windows(tile - 2) + _windows(tile - 2) >= rows:
            tile -= 2
    starts = [(rows - _windows(tile)) * number // max(1, count - 1) for number in range(count)]
    return tile, list(zip(starts, [*starts[1:], rows], strict=True))


def _windows(size: int) -> int:
    """Of the first network's answer for so many pixels; the last one may reach a pixel beyond them."""
    return (size - WINDOW + STRIDE + 1) // STRIDE


def _whole_windows(size: int) -> int:
    return (size - WINDOW + STRIDE) // STRIDE


class Areas:
    """A photograph, UINT8 [height, width, 3], as sums of its pixels, from which means of areas come fast.

    It takes 12 bytes a pixel. Sums count modulo 2**32, so an area may have 2**32 / 255 pixels, 16 million.
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.height, self.width, channels = pixels.shape
        # of all pixels above and to the left, a channel after the other
        self.sums = np.zeros((channels, self.height + 1, self.width + 1), np.uint32)
        for channel, table in enumerate(self.sums[:, 1:, 1:]):
            np.cumsum(pixels[:, :, channel], axis=1, dtype=np.uint32, out=table)
            np.cumsum(table, axis=0, out=table)

    def level(self, scale: float) -> Floats:
        """The whole photograph, smaller: FP32 [rows, columns, 3] of 0 to 255, not rounded."""
        top, bottom = _edges(self.height, int(self.height * scale + 1))
        left, right = _edges(self.width, int(self.width * scale + 1))
        counts = (bottom - top)[:, None] * (right - left)
        result = np.empty((*counts.shape, len(self.sums)), np.float32)
        for channel, table in enumerate(self.sums):
            bands = table[bottom] - table[top]
            total = bands[:, right] - bands[:, left]
            np.divide(total, counts, out=result[:, :, channel], dtype=np.float32, casting="same_kind")
        return result

    def crops(self, boxes: Floats, size: int) -> Floats:
        """What of the photograph is in boxes that touch it: FP32 [n, size, size, 3].

        At the photograph's border what is left of a box is stretched.
        """
        inside = self._inside(boxes)
        rows, columns = (
            [start[:, None] + edges for edges in _edges((end - start)[:, None], size)]
            for start, end in ((inside[:, 1], inside[:, 3]), (inside[:, 0], inside[:, 2]))
        )
        places = [row[:, :, None] * (self.width + 1) + column[:, None] for row in rows for column in columns]
        counts = (rows[1] - rows[0])[:, :, None] * (columns[1] - columns[0])[:, None]
        result = np.empty((*counts.shape, len(self.sums)), np.float32)
        for channel, table in enumerate(self.sums.reshape(len(self.sums), -1)):
            above_left, above_right, below_left, below_right = (table.take(place) for place in places)
            total = below_right - below_left - above_right + above_left
            np.divide(total, counts, out=result[..., channel], dtype=np.float32, casting="same_kind")
        return result

    def touched(self, boxes: Floats) -> NDArray[np.bool_]:
        """Which boxes have pixels of the photograph."""
        inside = self._inside(boxes)
        return (inside[:, :2] < inside[:, 2:]).all(1)

    def _inside(self, boxes: Floats) -> NDArray[np.int64]:
        """Of boxes, whose pixels count from 1, what is in the photograph, whose pixels count from 0."""
        whole = boxes.astype(np.int64)  # towards zero
        starts = np.maximum(whole[:, :2], 1) - 1
        return np.concatenate([starts, np.minimum(whole[:, 2:], [self.width, self.height])], 1)


def _edges(size: Any, parts: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where each of the parts of a side begins and ends; of several sides [n, 1] arrays [n, parts]."""
    numbers = np.arange(parts)
    return numbers * size // parts, -(-(numbers + 1) * size // parts)
