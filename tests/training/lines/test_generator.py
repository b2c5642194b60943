"""Lines depend on seed and number alone."""

import numpy as np
import pytest

from training.lines import generator
from training.lines.degrade import LEVELS
from training.lines.generator import LineSource


@pytest.mark.parametrize("level", LEVELS)
def test_a_line_depends_on_its_seed_and_number_alone(source, level):
    lines = [source.line(number, level) for number in range(12)]
    again = [LineSource("validation", seed=3).line(number, level) for number in reversed(range(12))][::-1]
    other = [LineSource("validation", seed=5).line(number, level) for number in range(12)]
    for line, same in zip(lines, again, strict=True):
        assert line.text == same.text
        assert np.array_equal(line.pixels, same.pixels)
        assert line.pixels.dtype == np.uint8
        assert line.pixels.shape[0] == 32
        assert np.median(line.pixels) > line.pixels.min() + 40, "dark on light"
    assert [line.text for line in other] != [line.text for line in lines]


def test_what_training_adds_leaves_the_other_splits_alone(source, monkeypatch):
    before = [source.line(number, "degraded") for number in range(12)]
    monkeypatch.setattr(generator, "THINNED_SHARE", 1.0)
    monkeypatch.setattr(generator, "SERIF_WEIGHT", 100.0)
    after = [LineSource("validation", seed=3).line(number, "degraded") for number in range(12)]
    for line, same in zip(before, after, strict=True):
        assert line.face == same.face
        assert np.array_equal(line.pixels, same.pixels)
