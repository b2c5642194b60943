"""Do a detector's outputs hold what its family says: boxes of things in the picture, and probabilities?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.common.errors import DetectorError
from export.graphs.detectors.box_formats import FORMATS, Grid, as_corners, evident_format, share_ordered
from export.graphs.detectors.families import Family

__all__ = ["boxes_of", "check_probabilities", "in_shares", "without_padding"]

SHARES = 2.0  # coordinates up to this are shares of the input, not pixels
FEW = 0.05  # of all boxes that may be odd
ALMOST_ALL = 0.98
PADDING = -1.0  # a class or a score, where a table has more rows than there are objects
MANY = 80  # places, most of which have nothing of most classes
SIGMOID_OF_1 = 0.7311
CHOICES = ", ".join(f"{kind} ({what})" for kind, what in FORMATS.items())


def in_shares(boxes: NDArray[Any]) -> bool:
    """Whether boxes [..., 4] are shares of the input and no pixels, by the largest numbers but a few, as of
    a grid's boxes some are far too large; all zeros, as where nothing is found, are not."""
    there = boxes.reshape(-1, 4)
    there = np.abs(there[there.any(1)].astype(np.float64))
    return bool(len(there) and np.quantile(there, ALMOST_ALL) <= SHARES)


def without_padding(table: NDArray[Any]) -> NDArray[Any]:
    """Rows [..., 6] that fill up a table of boxes, scores and classes become zeros, as they hold nothing.

    Exporters fill it up with zeros, as ultralytics does, or with -1, be it all of a row, the class or the
    score. Any other number below 0 means something else, and stays.
    """
    boxes, scores, classes = table[..., :4], table[..., 4], table[..., 5]
    is_padding = (classes == PADDING) | (scores == PADDING) | ((scores == 0) & (boxes == PADDING).all(-1))
    return np.where(is_padding[..., None], table.dtype.type(0), table)


def boxes_of(
    name: str,
    boxes: NDArray[Any],
    size: tuple[int, int],
    family: Family,
    grids: Sequence[Grid],
    asked: str = "",
) -> str:
    """The format of boxes [pictures, places, 4]: what the user has asked for, else what its family has unless
    they lie otherwise, else what their places tell.

    Raises `DetectorError` where they are no boxes, or where nothing tells.
    """
    if not np.isfinite(boxes.astype(np.float64)).all():
        raise DetectorError(f"the boxes in {name} are not all finite numbers")
    scale = np.array([size[1], size[0]] * 2) if in_shares(boxes) else 1
    pixels = boxes.astype(np.float64) * scale
    if family.queries and not in_shares(boxes) and not asked:
        raise DetectorError(
            f"the boxes in {name} reach {np.abs(pixels).max():.3g}, and those of the family {family.name} "
            f"are shares of the input. Say what they are with --boxes, one of {CHOICES}"
        )
    kind = asked or evident_format(pixels, size, grids, family.boxes)
    if not asked and family.boxes and (kind != family.boxes or not _may_be(pixels, family)):
        seems = f"seem to be {FORMATS[kind]}" if kind != family.boxes else "do not lie so"
        raise DetectorError(
            f"the boxes of the family {family.name} are {FORMATS[family.boxes]}, and those in {name} "
            f"{seems}: say what they are with --boxes, one of {CHOICES}"
        )
    if not kind:
        _check_decoded(name, pixels, size, "cxcywh")
        raise DetectorError(
            f"nothing in {name} tells what the numbers of its boxes are: say it with --boxes, one of "
            f"{CHOICES}. If they are offsets of anchors or of a grid's places, export it with its decoding"
        )
    _check_decoded(name, pixels, size, kind)
    return kind


def _may_be(pixels: NDArray[np.float64], family: Family) -> bool:
    """Whether the order of numbers is that of a family without a grid, which nothing else tells."""
    if family.boxes == "xyxy":
        return share_ordered(pixels) > 1 - FEW
    return not family.queries or share_ordered(pixels) < ALMOST_ALL


def _check_decoded(name: str, pixels: NDArray[np.float64], size: tuple[int, int], kind: str) -> None:
    """Raises `DetectorError` where boxes are offsets of places still."""
    corners = as_corners(pixels, kind)
    centres = (corners[..., :2] + corners[..., 2:]) / 2
    farthest = float(np.abs(centres).max(initial=0))
    far = float((np.abs(centres) > 4 * max(size)).mean())
    negative = 1 - share_ordered(pixels, kind)
    crowded = pixels.any() and farthest < min(size) / 8
    if negative > FEW or far > FEW or crowded:
        raise DetectorError(
            f"the boxes in {name} are no pixels of an input of {size[1]} x {size[0]}: as {FORMATS[kind]} "
            f"their centres lie within {farthest:.3g}, and {negative:.0%} have sides below 0. They are "
            "offsets of the grid's places still, or moved apart by class: export it with its decoding "
            "(YOLOX: --decode_in_inference; others: the whole model, not its heads alone), and without "
            f"suppression; or say what they are with --boxes, one of {', '.join(FORMATS)}"
        )


def check_probabilities(name: str, scores: NDArray[Any], family: Family) -> None:
    """Raises `DetectorError` where scores [pictures, places, numbers] are none."""
    numbers = scores.astype(np.float64)
    outside = (numbers < -1e-3) | (numbers > 1 + 1e-3) | ~np.isfinite(numbers)
    if not outside.any():
        if numbers.shape[1] >= MANY and numbers.min() >= 0.5 and numbers.max() <= SIGMOID_OF_1:
            raise DetectorError(
                f"the scores in {name} are {numbers.min():.3g} to {numbers.max():.3g} everywhere, as of a "
                "sigmoid that is taken twice: export it with one"
            )
        return
    said = f"the scores in {name} are {numbers.min():.3g} to {numbers.max():.3g}, no probabilities: "
    odd, count = int(outside.any((0, 1)).sum()), numbers.shape[-1]
    if odd < count:
        raise DetectorError(
            f"{said}{odd} of {count} numbers after the box are none, as an angle or key points would be. "
            f"Give a network of the task detect, or say another family than {family.name} with --detector"
        )
    raise DetectorError(
        f"{said}export it with its last sigmoid, or say another family than {family.name} with --detector"
    )
