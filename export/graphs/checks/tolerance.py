"""How far two answers to the same item may be from each other, element by element.

One measure for a whole output would be that of its largest numbers: beside boxes in pixels, or a class that
is banned with -1e9, any score would do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Excess", "difference", "exceeds", "tolerances"]

# Of the largest answer, where no tolerance is given: well above what another order of additions makes of it
RELATIVE = {"float16": 1e-2, "float32": 1e-3, "float64": 1e-6}
# Of an element's own size, times as much; small ones count as this share of the largest, as what is left
# where large numbers cancel is noise
OWN = 50
SMALLEST = {"float16": 2e-3, "float32": 1e-3, "float64": 1e-3}
SENTINEL = 1e4  # from here on it is no measure of other elements: "minus infinity" as people write it


@dataclass(frozen=True)
class Excess:
    """The worst element: by how much it differs, and by how much it might. difference: infinite where dims
    differ, or one of the two is no number."""

    difference: float
    tolerance: float


def difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The largest absolute one, 0.0 where both are the same infinity or NaN; infinite where one is not the
    other's kind, or where dims, or strings, differ."""
    return float(_gaps(ours, theirs).max(initial=0.0))


def tolerances(
    answers: Sequence[NDArray[Any]], absolute: float | None = None
) -> "NDArray[np.float64] | float":
    """By element, from answers of the same dims, each to an item alone. absolute: the same for all elements.

    Integers, booleans and strings have none. A float may differ by a thousandth of the output's largest
    number (FP16 a hundredth, FP64 a millionth), and by fifty times as much of its own, whichever is less.
    """
    if absolute is not None:
        return absolute
    dtype = str(answers[0].dtype)
    if dtype not in RELATIVE:
        return 0.0
    sizes = np.abs(np.stack([answer.astype(np.float64) for answer in answers]))
    sizes[~np.isfinite(sizes)] = 0.0
    own = sizes.max(0)
    largest = own.max(initial=0.0)
    ordinary = own[own < SENTINEL].max(initial=0.0) if (own < SENTINEL).any() else largest
    share = RELATIVE[dtype]
    found: NDArray[np.float64] = np.minimum(
        share * largest, OWN * share * np.maximum(own, SMALLEST[dtype] * ordinary)
    )
    return found


def exceeds(
    ours: NDArray[Any], theirs: NDArray[Any], allowed: "NDArray[np.float64] | float"
) -> Excess | None:
    """The element that is furthest above its tolerance; None if none is. allowed: of `tolerances`.

    ours, theirs: of one shape.
    """
    gaps = _gaps(ours, theirs)
    limits = np.asarray(allowed, np.float64)
    if limits.shape != gaps.shape:
        limits = np.broadcast_to(limits.max(initial=0.0), gaps.shape)
    above = ~(gaps <= limits)
    if not above.any():
        return None
    with np.errstate(all="ignore"):
        ratios = np.where(above, gaps / np.maximum(limits, np.finfo(np.float64).tiny), 0.0)
    worst = np.unravel_index(int(np.argmax(np.nan_to_num(ratios, posinf=np.inf))), ratios.shape)
    return Excess(float(gaps[worst]), float(limits[worst]))


def _gaps(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
    """By element; infinite in all where dims differ."""
    if ours.shape != theirs.shape:
        return np.full(theirs.shape or (1,), np.inf) if theirs.size else np.full(1, np.inf)
    if ours.dtype.kind in "OSU" or theirs.dtype.kind in "OSU":
        return np.where(np.atleast_1d(ours == theirs), 0.0, np.inf)
    with np.errstate(all="ignore"):
        ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
        gaps = np.atleast_1d(np.abs(ours - theirs))
        gaps[np.atleast_1d((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))] = 0.0
    return np.nan_to_num(gaps, nan=np.inf, posinf=np.inf)
