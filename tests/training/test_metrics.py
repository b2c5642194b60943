"""Error rates and greedy decoding."""

import numpy as np
import pytest

from export.networks.text.charset import CHARSET
from training.metrics import character_error_rate, edit_distance, greedy_text, indices


def test_edit_distance_and_character_error_rate():
    assert edit_distance("", "") == 0
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("Wy", "wv") == 2
    assert character_error_rate([("abcd", "abcd"), ("xb", "ab")]) == pytest.approx(100 / 6)
    assert character_error_rate([("aaaa", "a")]) == pytest.approx(300)


def test_greedy_text_merges_repeats_and_drops_blanks():
    def log_probs(classes: list[int]) -> np.ndarray:
        table = np.full((len(classes), 122), -9.0)
        table[np.arange(len(classes)), classes] = -0.1
        return table

    k, e = indices("ke")
    assert greedy_text(log_probs([0, k, k, 0, e, 0, e, e, 0])) == "kee"
    assert greedy_text(log_probs([0, 0])) == ""
    assert indices(CHARSET) == list(range(1, 122))
