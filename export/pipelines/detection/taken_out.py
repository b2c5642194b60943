"""Does a graph without its suppression find what it found with it? Its own outputs tell."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.common.errors import DetectorError
from export.graphs.detectors.box_formats import FORMATS, as_corners
from export.graphs.detectors.rewriting import BOXES, IMAGE, INNER, fed_with_pixels
from export.graphs.detectors.suppression import SELECTED, with_selected
from export.pipelines.detection.pictures import resized_photographs
from export.pipelines.detection.wrapping import DetectorRequest, Prepared, saved
from export.pipelines.serving.in_process import Answer, run, session_of

__all__ = ["check_taken_out"]

SAME = 1.0  # pixels
FAR = np.nan  # compares as neither near nor the same
ADVICE = (
    "Export it without suppression (ultralytics: nms=False; others: the network alone), and give it again"
)


def check_taken_out(original: onnx.ModelProto, prepared: Prepared, request: DetectorRequest) -> None:
    """Raises `DetectorError` where boxes that its suppression chose are not those that it answered itself.

    Boxes are moved between suppression and answer in some graphs: away from those of other classes, for one.
    What answers no boxes, but their places alone, is not compared.
    """
    fed = fed_with_pixels(with_selected(original), prepared.size, prepared.pixels, request.is_bgr)
    has_tables = was_compared = False
    with saved(fed, "whole") as whole, saved(prepared.model, "bare") as bare:
        sessions = session_of(whole), session_of(bare)
        for pixels in resized_photographs(prepared.size):
            own, ours = (run(session, {IMAGE: pixels[None]}) for session in sessions)
            selected = own.pop(INNER + SELECTED)
            tables = list(_tables(own))
            has_tables |= bool(tables)
            if len(selected) and tables:
                was_compared = True
                _compare(tables, ours[BOXES][0][selected[:, 2]].astype(np.float64), selected, prepared.size)
    if has_tables and not was_compared:
        raise DetectorError(
            "its NonMaxSuppression chooses nothing in any photograph that it was tried with, so that what it "
            f"finds without cannot be compared. {ADVICE}"
        )


def _compare(
    tables: list[NDArray[np.float64]],
    boxes: NDArray[np.float64],
    selected: NDArray[Any],
    size: tuple[int, int],
) -> None:
    """Of one photograph: boxes [n, 4] in pixels, as suppression was given those that it selected."""
    fits = [
        _has_classes(table, selected, start)
        for table in tables
        if len(table) >= len(boxes)
        for start in _starts(table, boxes, size)
    ]
    if not fits:
        raise DetectorError(
            "its own boxes are others than those that its NonMaxSuppression is given: they are moved, as "
            f"boxes of one class are away from those of others. {ADVICE}"
        )
    if not any(fits):
        raise DetectorError(
            "its own boxes have classes, which its NonMaxSuppression is not told: it looks at the best score "
            f"of each place alone. {ADVICE}"
        )


def _tables(answer: Answer) -> Iterator[NDArray[np.float64]]:
    """[rows, numbers], of outputs that may hold boxes."""
    for array in answer.values():
        if array.ndim and array.shape[-1] >= 4 and np.issubdtype(array.dtype, np.floating):
            yield array.reshape(-1, array.shape[-1]).astype(np.float64)


def _starts(table: NDArray[np.float64], boxes: NDArray[np.float64], size: tuple[int, int]) -> Iterator[int]:
    """Where in its rows those boxes stand, in whatever format, in pixels or shares of the input."""
    limits = np.array([size[1], size[0]] * 2, float)
    for start in range(table.shape[1] - 3):
        for kind in FORMATS:
            for scale in (np.ones(4), limits):
                found = as_corners(table[:, start : start + 4], kind) * scale
                pairs = np.abs(_inside(boxes, limits)[:, None] - _inside(found, limits)[None]).max(2)
                if (pairs < SAME).any(1).all():
                    yield start


def _inside(boxes: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Within the picture, as some graphs cut them; those that lie far outside are like no other."""
    is_far = (np.abs(boxes) > 2 * limits).any(1, keepdims=True)
    return np.where(is_far, FAR, np.clip(boxes, 0, limits))


def _has_classes(table: NDArray[np.float64], selected: NDArray[Any], start: int) -> bool:
    """Whether, of the other columns, one of those of whole numbers has our classes, if there are any."""
    others = np.delete(table[: len(selected)], np.s_[start : start + 4], axis=1)
    whole = [column for column in others.T if (column == np.round(column)).all()]
    return not whole or any((column == selected[:, 1]).all() for column in whole)
