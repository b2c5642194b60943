"""Texts keep to their split, the charset and the length."""

import re

import numpy as np
import pytest

from export.networks.text.charset import CHARSET
from training.lines.text import KINDS, TextSource
from training.lines.words import split_of_word


def test_test_lines_say_test_words_only(source):
    texts = TextSource("test")
    for number in range(300):
        text = texts.draw("english", np.random.default_rng(number))
        for word in re.findall("[a-z]+", re.sub("'s( |$|[^a-z])", " ", text.lower())):
            assert split_of_word(word) == "test" or len(text) == 60, text


@pytest.mark.parametrize("kind", KINDS)
def test_texts_keep_to_the_charset_and_the_length(kind):
    texts = TextSource("validation")
    drawn = [texts.draw(kind, np.random.default_rng(number), 40) for number in range(400)]
    assert set("".join(drawn)) <= set(CHARSET)
    assert all(0 < len(text) <= 40 and text == text.strip() for text in drawn)
    assert len(set(drawn)) > 250
