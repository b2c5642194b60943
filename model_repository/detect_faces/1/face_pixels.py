"""Pixels for the networks that find faces: a photograph at many sizes, tiles of those, and parts of it.

Resized is by area, as `facenet-pytorch` 2.6.0 does (PyTorch calls it adaptive average pooling): pixel i
of m, made of n, is the mean of those from floor(i n / m) up to ceil((i + 1) n / m), so neighbours may share
one. Made larger, pixels repeat.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_FACE", "crop", "pyramid", "resized", "tiles", "touching"]

Floats = NDArray[np.float32]

WINDOW, STRIDE = 12, 2  # pixels: a side of what the first network looks at, and from one to the next
LEAST_FACE = WINDOW  # pixels of a side; smaller ones would need a photograph made larger
SCALE_STEP = 0.709  # from one level of the pyramid to the next: about half the area


def pyramid(pixels: NDArray[np.uint8], least_face: float) -> list[tuple[float, Floats]]:
    """(scale, FP32 [rows, columns, 3]) of each level, the largest first: at the first one, faces of
    `least_face` pixels fill a window; the last one is as high or wide as one."""
    height, width, _ = pixels.shape
    scale, shorter = WINDOW / least_face, min(height, width) * (WINDOW / least_face)
    scales = []
    while shorter >= WINDOW:
        scales.append(scale)
        scale, shorter = scale * SCALE_STEP, shorter * SCALE_STEP
    levels = resized(pixels, [(int(height * each + 1), int(width * each + 1)) for each in scales])
    return list(zip(scales, levels, strict=True))


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


def crop(pixels: NDArray[np.uint8], box: Floats, size: int) -> Floats:
    """What of the photograph is in a box that touches it: FP32 [size, size, 3].

    At the photograph's border what is left of the box is stretched.
    """
    left, top, right, bottom = _inside(box[None], pixels)[0]
    return resized(pixels[top:bottom, left:right], [(size, size)])[0]


def touching(boxes: Floats, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which boxes have pixels of the photograph."""
    inside = _inside(boxes, pixels)
    return (inside[:, :2] < inside[:, 2:]).all(1)


def _inside(boxes: Floats, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Of boxes, whose pixels count from 1, what is in the photograph, whose rows and columns count from 0."""
    height, width, _ = pixels.shape
    whole = boxes.astype(np.int64)  # towards zero
    starts = np.maximum(whole[:, :2], 1) - 1
    return np.concatenate([starts, np.minimum(whole[:, 2:], [width, height])], 1)


def resized(image: NDArray[np.uint8], sizes: Sequence[tuple[int, int]]) -> list[NDArray[np.float32]]:
    """UINT8 [height, width, channels] at each of `sizes`, (rows, columns): FP32 of 0 to 255, not rounded.

    One table of sums serves all sizes, a channel at a time: four bytes a pixel, while it works. It counts
    modulo 2**32, so a pixel of a result may cover up to 2**32 / 255 pixels, 16 million.
    """
    height, width, channels = image.shape
    results = [np.empty((*size, channels), np.float32) for size in sizes]
    edges = [(_edges(height, rows), _edges(width, columns)) for rows, columns in sizes]
    sums = np.zeros((height + 1, width + 1), np.uint32)  # of all that is above and to the left
    for channel in range(channels):
        inner = sums[1:, 1:]
        np.cumsum(image[:, :, channel], axis=1, dtype=np.uint32, out=inner)
        np.cumsum(inner, axis=0, out=inner)
        for result, ((top, bottom), (left, right)) in zip(results, edges, strict=True):
            bands = sums[bottom] - sums[top]
            total = bands[:, right] - bands[:, left]
            counts = (bottom - top)[:, None] * (right - left)
            np.divide(total, counts, out=result[:, :, channel], dtype=np.float32, casting="same_kind")
    return results


def _edges(size: int, parts: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where each of the parts begins and ends."""
    numbers = np.arange(parts)
    return numbers * size // parts, -(-(numbers + 1) * size // parts)
