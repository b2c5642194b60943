"""What is counted, and how sure a share of few photographs is."""

from pathlib import Path

import pytest

from client.cli.robustness.photographs import Photograph
from client.cli.robustness.tally import UNDISTURBED, Tally, Variant, interval
from client.results import Classification, Prediction

WEAK, STRONG = Variant("blur", 1), Variant("blur", 5)


def prediction(index, weights="pretrained"):
    return Prediction("", "m", "1", weights, (Classification("", index, 0.5),))


def photograph(label=None):
    return Photograph(Path("a.jpg"), "a.jpg", label)


@pytest.mark.parametrize(
    ("count", "images", "low", "high"),
    [  # as published calculators give them
        (0, 10, 0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1),
        (81, 263, 0.2553, 0.3662),  # the example of Newcombe (1998), Statistics in Medicine 17
    ],
)
def test_intervals_are_wilsons(count, images, low, high):
    assert interval(count, images) == pytest.approx((low, high), abs=5e-5)


def test_agreement_is_with_the_undisturbed_and_accuracy_with_the_label():
    tally = Tally([UNDISTURBED, WEAK, STRONG], {"cat": frozenset({1, 2})})
    tally.add(photograph("cat"), [prediction(1), prediction(2), prediction(3)])
    tally.add(photograph("cat"), [prediction(4), prediction(4), prediction(1)])
    assert [tally.agreeing[one] for one in tally.variants] == [2, 1, 0]
    assert [tally.correct[one] for one in tally.variants] == [1, 1, 1]
    assert (tally.measure, tally.count(WEAK), tally.images) == ("accuracy", 1, 2)


def test_without_labels_it_is_agreement():
    tally = Tally([UNDISTURBED, WEAK])
    tally.add(photograph(), [prediction(1), prediction(1)])
    assert (tally.measure, tally.count(WEAK), tally.count(UNDISTURBED)) == ("agreement", 1, 1)
    assert (tally.corruptions, tally.of("blur")) == (["blur"], [WEAK])
    assert not tally.has_random_weights
    tally.add(photograph(), [prediction(1, "random"), prediction(2, "random")])
    assert tally.has_random_weights
    assert len(tally.answered_by) == 2


def test_a_strength_is_a_level_of_its_corruption():
    assert [UNDISTURBED.level, WEAK.level, STRONG.level] == [None, 1, 6]
