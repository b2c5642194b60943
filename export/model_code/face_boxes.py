"""Boxes of faces, between the networks that find them: candidates, and where their sides belong.

Scales, roundings and borders are those of `facenet-pytorch` 2.6.0, so that the same faces are found. Boxes
are FP32 [n, 4], left, top, right and bottom in pixels of the photograph; they may reach beyond it.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SAME_SCALE", "Candidates", "landmarks_of", "moved", "squared", "windows"]

Floats = NDArray[np.float32]

WINDOW, STRIDE = 12, 2  # pixels: a side of what the first network looks at, and from one to the next
SAME_SCALE = 0.5  # overlap from which two candidates of one level are one
MOST_OF_A_SCALE = 10_000  # candidates, the best; MTCNN has no bound, and photographs of crowds stay far below


@dataclass(frozen=True)
class Candidates:
    """Boxes that may be faces, with what a network says of each: its score, and offsets of its sides."""

    boxes: Floats  # [n, 4]
    scores: Floats  # [n]
    offsets: Floats  # [n, 4]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: NDArray[Any]) -> Candidates:
        return Candidates(self.boxes[which], self.scores[which], self.offsets[which])

    def best(self, most: int) -> Candidates:
        """Those of the highest scores, in the order they are in."""
        if len(self) <= most:
            return self
        return self[np.sort(np.argsort(-self.scores, kind="stable")[:most])]

    @staticmethod
    def joined(parts: list[Candidates]) -> Candidates:
        """One after the other; of no parts, none."""
        none = Candidates(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 4), np.float32))
        return Candidates(
            np.concatenate([part.boxes for part in (none, *parts)]),
            np.concatenate([part.scores for part in (none, *parts)]),
            np.concatenate([part.offsets for part in (none, *parts)]),
        )


def windows(scores: Floats, offsets: Floats, scale: float, threshold: float) -> Candidates:
    """The candidates of one level, of which many overlap: scores FP32 [rows, columns], offsets FP32 [rows,
    columns, 4]."""
    rows, columns = np.nonzero(scores >= threshold)
    starts = np.stack([columns, rows], 1).astype(np.float32) * STRIDE
    boxes = np.floor(np.concatenate([(starts + 1) / scale, (starts + WINDOW) / scale], 1), dtype=np.float32)
    return Candidates(boxes, scores[rows, columns], offsets[rows, columns]).best(MOST_OF_A_SCALE)


def moved(boxes: Floats, offsets: Floats, edge: int = 1) -> Floats:
    """With its sides where a network says they belong; offsets are parts of a side, `edge` pixels longer."""
    sides = boxes[:, 2:] - boxes[:, :2] + np.float32(edge)
    return boxes + offsets * np.tile(sides, 2)


def squared(boxes: Floats) -> Floats:
    """As wide as they are high, about their centres, by the longer side."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(1, keepdims=True)
    starts = boxes[:, :2] + sides * np.float32(0.5) - longer * np.float32(0.5)
    return np.concatenate([starts, starts + longer], 1)


def landmarks_of(boxes: Floats, points: Floats) -> Floats:
    """FP32 [n, 5, 2], x and y in pixels of the photograph, of points in parts of their boxes."""
    sides = boxes[:, 2:] - boxes[:, :2] + np.float32(1)
    return points * sides[:, None] + boxes[:, None, :2] - np.float32(1)
