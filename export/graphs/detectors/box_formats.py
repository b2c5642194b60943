"""What the four numbers of a box are: by where the boxes of a grid's places lie, and by their order.

A place of a grid finds what is near its own cell. So of all that four numbers may mean, that is meant which
puts the boxes near their cells; where places are on no grid, only the order of corners tells something.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMATS", "Grid", "as_corners", "evident_format", "grids_of", "share_ordered"]

FORMATS = {
    "xyxy": "left, top, right, bottom",
    "yxyx": "top, left, bottom, right, as TensorFlow has them",
    "cxcywh": "centre, width, height",
    "xywh": "left, top, width, height",
}
STRIDES = (4, 8, 16, 32, 64, 128)  # pixels from one place of a detector's grids to the next
FINEST = 16  # the finest grid of a detector has no larger stride
ANCHORS = (1, 3)  # boxes of a place: YOLOv8 and YOLOX have one, YOLOv3 to v7 three
NEAR = 2.0  # strides from a cell to its box's centre, which half of the boxes keep to
CLEARLY = 0.5  # of the next best format's distance
DOUBTFUL = 0.25  # strides: a format that is as near as this is contradicted by none

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """strides: of its parts, one after the other. anchors: boxes of one cell."""

    strides: tuple[int, ...]
    anchors: int

    def cells(self, size: tuple[int, int]) -> tuple[Floats, Floats]:
        """[places, 2], the centre of each place's cell, and [places], its stride. size: height and width."""
        centres, strides = [], []
        for stride in self.strides:
            height, width = size[0] // stride, size[1] // stride
            rows, columns = np.divmod(np.arange(height * width), width)
            centre = (np.stack([columns, rows], 1) + 0.5) * stride
            centres += [centre] * self.anchors  # anchor by anchor, as YOLOv5 flattens them
            strides += [np.full(len(centre) * self.anchors, float(stride))]
        return np.concatenate(centres), np.concatenate(strides)


def grids_of(places: int, size: tuple[int, int]) -> list[Grid]:
    """Those of neighbouring strides that have so many places, fine ones first and coarse ones first."""
    found = []
    for first in range(STRIDES.index(FINEST) + 1):
        for last in range(first + 2, len(STRIDES) + 1):
            strides = STRIDES[first:last]
            cells = sum((size[0] // stride) * (size[1] // stride) for stride in strides)
            found += [
                Grid(order, anchors)
                for anchors in ANCHORS
                if cells and cells * anchors == places
                for order in (strides, strides[::-1])
            ]
    return found


def as_corners(boxes: NDArray[Any], kind: str) -> Floats:
    """Left, top, right and bottom of boxes [..., 4]. kind: a key of `FORMATS`."""
    numbers = boxes.astype(np.float64)
    first, last = numbers[..., :2], numbers[..., 2:4]
    if kind == "yxyx":
        first, last = first[..., ::-1], last[..., ::-1]
    elif kind == "xywh":
        last = first + last
    elif kind == "cxcywh":
        first, last = first - last / 2, first + last / 2
    return np.concatenate([first, last], -1)


def share_ordered(boxes: NDArray[Any], kind: str = "xyxy") -> float:
    """Of boxes [..., 4] that are not all zeros, the share with left before right and top before bottom."""
    there = boxes.reshape(-1, 4)
    corners = as_corners(there[(there != 0).any(1)], kind)
    return float((corners[:, 2:] >= corners[:, :2]).all(1).mean()) if len(corners) else 1.0


def evident_format(
    boxes: NDArray[Any], size: tuple[int, int], grids: Sequence[Grid], expected: str = ""
) -> str:
    """The format of boxes [photographs, places, 4] in pixels; "" where nothing tells it.

    expected: what it is unless the boxes lie otherwise. size: height and width of the input.
    """
    distances = {
        kind: min((_distance(boxes, size, grid, kind) for grid in grids), default=np.inf) for kind in FORMATS
    }
    first, second = sorted(FORMATS, key=lambda kind: distances[kind])[:2]
    is_clear = distances[first] < NEAR and distances[first] <= CLEARLY * distances[second]
    if expected:
        return first if is_clear and distances[expected] > DOUBTFUL else expected
    return first if is_clear else ""


def _distance(boxes: NDArray[Any], size: tuple[int, int], grid: Grid, kind: str) -> float:
    """Strides from a place's cell to its box's centre, the median; infinite where sides are negative."""
    corners = as_corners(boxes, kind)
    if (corners[..., 2:] < corners[..., :2]).any(-1).mean() > 0.05:
        return float(np.inf)
    centres, strides = grid.cells(size)
    away = np.linalg.norm((corners[..., :2] + corners[..., 2:]) / 2 - centres, axis=-1)
    return float(np.median(away / strides))
