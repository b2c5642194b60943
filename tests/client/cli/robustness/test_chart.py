"""The picture of a run: legible at any number of corruptions, and drawn from the numbers."""

import builtins
from collections import Counter

import numpy as np
import pytest

from client.cli.robustness.chart import chart, checked_matplotlib
from client.cli.robustness.tally import UNDISTURBED, Tally, Variant
from client.errors import InvalidInput
from client.images.corruptions import CORRUPTIONS, STRENGTHS


def tally(corruptions=1, strengths=STRENGTHS, share=0.5, weights="pretrained"):
    names = list(CORRUPTIONS)[:corruptions]
    variants = [UNDISTURBED, *(Variant(name, number) for name in names for number in strengths)]
    counts = Counter({one: round(40 * share) if one.corruption else 40 for one in variants})
    return Tally(variants, None, 40, counts, Counter(), {("m", "1", weights): None})


@pytest.mark.parametrize(("corruptions", "width", "height"), [(1, 2, 1), (2, 2, 1), (3, 3, 1), (6, 3, 2)])
def test_each_corruption_has_a_chart(corruptions, width, height):
    drawn = chart(tally(corruptions))
    assert drawn.mode == "RGB"
    assert drawn.size == (480 * width, 390 * height + 150)
    ink = np.asarray(drawn.convert("L")) < 250
    assert ink.any()
    assert not ink[:, [0, -1]].any()  # nothing is cut at the sides
    assert not ink[[0, -1]].any()


def test_the_numbers_are_drawn():
    heights = []
    for share in (0.25, 0.75):
        red, green, blue = np.moveaxis(np.asarray(chart(tally(share=share)), int), -1, 0)
        rows = np.nonzero((blue - red > 100) & (green < 100))[0]
        heights.append(np.median(rows))
    assert heights[0] > heights[1] + 100  # pixels; further up is more


def test_one_strength_and_the_words_of_any_model_can_be_drawn():
    chart(tally(strengths=(3,), weights="costs 5$ or $\\frac{ <b>"))


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def without(name, *given):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidInput, match="pip install matplotlib"):
        checked_matplotlib()
