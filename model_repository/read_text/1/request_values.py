"""What a request says, read: parameters, numbers, names of classes; which of them will do, its model says.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Sequence
from typing import Any

__all__ = ["class_number", "finite_number", "parameters_of"]

NEAR, LONGEST_LABEL = 3, 64  # labels that are proposed for one that there is not; characters of one


def parameters_of(request: Any) -> dict[str, Any]:
    """Of a request of Triton's. Raises `ValueError`, as HTTP lets bytes through that are no UTF-8."""
    try:
        parameters: dict[str, Any] = json.loads(request.parameters() or "{}")
    except ValueError as error:
        raise ValueError(f"the parameters of the request cannot be read: {error}") from error
    return parameters


def finite_number(value: object) -> float | None:
    """Of a number, or of a string of one, as not every client sends numbers with a point; NaN is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and "_" in value:  # Python's own, as in 1_000
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def class_number(label: str, labels: Sequence[str], role: str) -> int:
    """The class of that label, in capitals or not. role: what the label is, for messages: "the label for
    image 1".

    Raises `ValueError`, with what to do, if no class has it, or several have.
    """
    found = [place for place, known in enumerate(labels) if known.casefold() == label.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = " and ".join(map(str, found))
        raise ValueError(f"classes {numbers} are both '{label}', {role}; give a number")
    near = difflib.get_close_matches(label, labels, NEAR) if len(label) <= LONGEST_LABEL else []
    proposed = f"did you mean {' or '.join(near)}?" if near else "labels.txt of the model lists them"
    raise ValueError(f"there is no class '{label[:LONGEST_LABEL]}', {role}; {proposed}")
