"""Boxes that overlap: which of them are answered, and how many.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Found", "Wanted", "apart", "chosen"]

Floats = NDArray[np.float32]

MOST_COMPARED = 3_000  # pairs of a box and a class, the best ones; photographs of crowds have a few hundred


def apart(boxes: Floats, scores: Floats, most: float, of_smaller: bool = False) -> NDArray[np.intp]:
    """Non-maximum suppression: which boxes stay, best first, if none may overlap a better one by more.

    most: of the overlap's share in both boxes together, or of_smaller: in the smaller one, where the last
        pixels of a box count as a part of it.
    """
    order = np.argsort(-scores, kind="stable")
    left, top, right, bottom = boxes[order].T
    edge = np.float32(of_smaller)
    areas = (right - left + edge) * (bottom - top + edge)
    stays = []
    waiting = np.arange(len(order))
    while len(waiting):
        best, others = waiting[0], waiting[1:]
        stays.append(best)
        width = np.minimum(right[best], right[others]) - np.maximum(left[best], left[others]) + edge
        height = np.minimum(bottom[best], bottom[others]) - np.maximum(top[best], top[others]) + edge
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        smaller = np.minimum(areas[best], areas[others])
        whole = smaller if of_smaller else areas[best] + areas[others] - shared
        waiting = others[shared <= np.float32(most) * whole]
    return order[stays]


@dataclass(frozen=True)
class Wanted:
    """score_threshold: the least score; iou_threshold: the most that two boxes of one class may share, of
    what both cover together, 1 for anything; classes: their numbers, None for all; max_detections: the most
    boxes."""

    score_threshold: float
    iou_threshold: float
    classes: Sequence[int] | None
    max_detections: int


@dataclass(frozen=True)
class Found:
    """boxes: FP32 [n, 4]; scores: FP32 [n]; class_ids: INT32 [n]; the best first."""

    boxes: Floats
    scores: Floats
    class_ids: NDArray[np.int32]


def chosen(boxes: Floats, scores: Floats, wanted: Wanted) -> Found:
    """Of one image: boxes FP32 [places, 4], left, top, right and bottom, and scores FP32 [places, classes].

    A box may be answered for several classes, for each with its score. What is not finite is no box.
    """
    candidates = np.isfinite(scores) & (scores >= np.float32(wanted.score_threshold))
    if wanted.classes is not None:
        others = np.ones(scores.shape[1], bool)
        others[list(wanted.classes)] = False
        candidates[:, others] = False
    places, class_ids = np.divmod(np.flatnonzero(candidates), scores.shape[1])  # 18 times np.nonzero's speed
    is_whole = np.isfinite(boxes[places]).all(1)
    places, class_ids = places[is_whole], class_ids[is_whole]
    found = -scores[places, class_ids]
    if len(found) > MOST_COMPARED:  # those are put in order alone
        best = np.sort(np.argpartition(found, MOST_COMPARED)[:MOST_COMPARED])
        places, class_ids, found = places[best], class_ids[best], found[best]
    order = np.argsort(found, kind="stable")
    places, class_ids = places[order], class_ids[order]
    its_scores, its_boxes = scores[places, class_ids], boxes[places]
    stay = np.arange(len(order))
    if wanted.iou_threshold < 1:
        by_class = [np.flatnonzero(class_ids == number) for number in np.unique(class_ids)]
        kept = [of[apart(its_boxes[of], its_scores[of], wanted.iou_threshold)] for of in by_class]
        stay = np.sort(np.concatenate([np.empty(0, np.intp), *kept]))
    stay = stay[: wanted.max_detections]
    return Found(its_boxes[stay], its_scores[stay], class_ids[stay].astype(np.int32))
