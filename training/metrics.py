"""Character error rate and greedy CTC decoding."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.networks.text.charset import BLANK, CHARSET

__all__ = ["CER_UNIT", "character_error_rate", "edit_distance", "greedy_text", "indices"]

CER_UNIT = "percent"
_NUMBER = {character: 1 + i for i, character in enumerate(CHARSET)}


def indices(text: str) -> list[int]:
    """The classes of a text, blanks not among them. Raises `KeyError` for characters not in the charset."""
    return [_NUMBER[character] for character in text]


def greedy_text(log_probs: NDArray[Any]) -> str:
    """Log-probabilities [steps, 122] -> text: the best class of each step, repeats merged, blanks dropped."""
    best = np.asarray(log_probs).argmax(-1)
    kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return "".join(CHARSET[i - 1] for i in kept if i != BLANK)


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's: insertions, deletions and substitutions, each 1."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def character_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Percent: the edit distances of all (read, true) pairs over the true texts' total length.

    Raises `ZeroDivisionError` where that is 0.
    """
    errors = total = 0
    for read, true in pairs:
        errors += edit_distance(read, true)
        total += len(true)
    return 100 * errors / total
