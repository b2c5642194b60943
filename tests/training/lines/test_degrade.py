"""Degraded and thinned lines."""

import numpy as np

from training.lines import generator
from training.lines.degrade import thinned
from training.lines.fonts import faces


def test_degraded_lines_are_harder_to_see(source):
    def roughness(level: str) -> float:
        lines = [source.line(number, level, "english").pixels.astype(float) for number in range(40)]
        return float(np.mean([np.abs(np.diff(pixels[:2])).mean() for pixels in lines]))  # the upper margin

    assert roughness("degraded") > 2 * roughness("clean")


def test_thinned_ink_is_less_and_nowhere_more(source):
    random = np.random.default_rng(0)
    for face in (family[0] for family in faces("validation")):
        ink = generator.render("Thin strokes", face, "degraded", random)
        before, after = np.asarray(ink, int), np.asarray(thinned(ink, random), int)
        assert (after <= before + 1).all()
        assert 0.05 * before.sum() < after.sum() < before.sum()
