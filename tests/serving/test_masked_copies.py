"""What is computed of masked copies: the copies themselves, and where they say that a class was seen."""

import numpy as np
import pytest

from export.model_code.masked_copies import SIDE, Copies, masks, saliency

PIXELS = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


def test_masks_are_the_same_each_time_and_show_all_shares():
    found = masks(400)
    assert found.shape == (400, SIDE, SIDE)
    assert (found.min(), found.max()) == (0, 1)
    masks.cache_clear()
    assert (masks(400) == found).all()
    assert (masks(100) == found[:100]).all()
    shares = found.mean((1, 2)).reshape(-1, 8).mean(0)
    np.testing.assert_allclose(shares, np.arange(1, 9) / 9, atol=0.05)
    # No place is shown more often than another one: the map has no opinion of its own.
    np.testing.assert_allclose(found.mean(0), 0.5, atol=0.12)


def test_what_is_shown_stays_and_what_is_hidden_is_blurred():
    shown, hidden, half = Copies(PIXELS).masked(
        np.stack([np.full((SIDE, SIDE), share, np.float32) for share in (1, 0, 0.5)])
    )
    assert (shown == PIXELS).all()
    assert hidden.std() < PIXELS.std() / 5
    np.testing.assert_allclose(half, (shown.astype(float) + hidden) / 2, atol=1)
    left = np.zeros((1, SIDE, SIDE), np.float32)
    left[..., : SIDE // 2] = 1
    (copy,) = Copies(PIXELS).masked(left)
    assert (copy[:, :100] == PIXELS[:, :100]).all()
    assert (copy[:, 124:] == hidden[:, 124:]).all()


@pytest.mark.parametrize(("row", "column"), [(10, 12), (44, 12), (28, 28), (5, 50)])
def test_the_place_that_counts_is_found(row, column):
    """A made-up network that looks at one place, and says more besides the more it sees."""
    some = masks(400)
    seen = some[:, row - 3 : row + 3, column - 3 : column + 3].mean((1, 2))
    probabilities = np.exp(3 * seen + 2 * some.mean((1, 2)) - 6)
    found = saliency(some, probabilities, (224, 224))
    assert (found.shape, found.dtype) == ((224, 224), np.float32)
    hottest = np.unravel_index(found.argmax(), found.shape)
    np.testing.assert_allclose(hottest, (4 * row, 4 * column), atol=16)
    assert found.max() == pytest.approx(3, rel=0.25)  # what showing it adds to the logarithm
    assert abs(np.median(found)) < 0.3  # what only the share explains is nowhere


def test_a_class_that_nothing_changes_has_no_places():
    assert (np.abs(saliency(masks(100), np.full(100, 0.3), (224, 224))) < 1e-5).all()
    assert np.isfinite(saliency(masks(100), np.zeros(100), (224, 224))).all()
