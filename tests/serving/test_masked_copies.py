"""What is computed of masked copies: the copies themselves, and where they say that a class was seen."""

import numpy as np
import pytest

from export.model_code.masked_copies import (
    SHARES,
    SIDE,
    Copies,
    closer,
    enlarged,
    masks,
    saliency,
    supposed,
)

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


def test_closer_masks_show_and_hide_by_turns_what_seemed_to_matter():
    rows, columns = np.indices((SIDE, SIDE))
    matter = -np.hypot(rows - 12, columns - 40).astype(np.float32)
    made = closer(matter, 200)
    assert (made == closer(matter, 200)).all()
    assert set(np.unique(made)) == {0, 1}
    np.testing.assert_allclose(made.mean((1, 2)), np.tile(np.repeat(SHARES, 2), 13)[:200], atol=0.01)
    shows, hides = (made[first::2][:, matter > -8].mean() for first in (0, 1))
    assert shows > 0.85
    assert hides < 0.15
    assert (made[0] != made[16]).any()  # of the same share and kind: what seemed to matter is doubted
    # Where nothing seemed to matter they are random, and have no opinion of their own.
    blind = closer(np.zeros((SIDE, SIDE), np.float32), 400)
    np.testing.assert_allclose(blind.mean(0), 0.5, atol=0.12)


def asked(network, count=400):
    """As the served model does it: the heatmap of a made-up network, probabilities of masks."""
    some = masks(count // 2)
    more = closer(supposed(some, network(some)), count - len(some))
    both = np.concatenate([some, more])
    return saliency(both, network(both), len(some))


@pytest.mark.parametrize(("row", "column"), [(10, 12), (44, 12), (28, 28), (5, 50)])
def test_the_place_that_counts_is_found(row, column):
    """A made-up network that looks at one place, and says more besides the more it sees."""

    def network(some):
        seen = some[:, row - 3 : row + 3, column - 3 : column + 3].mean((1, 2))
        odds = np.exp(3 * seen + 2 * some.mean((1, 2)) - 4)
        return odds / (1 + odds)

    found = asked(network)
    assert (found.shape, found.dtype) == ((SIDE, SIDE), np.float32)
    hottest = np.unravel_index(found.argmax(), found.shape)
    np.testing.assert_allclose(hottest, (row, column), atol=4)
    assert found.max() == pytest.approx(3, rel=0.25)  # what showing it adds to the logarithm of the odds
    assert abs(np.median(found)) < 0.3  # what only the share explains is nowhere


def test_copies_that_vary_wildly_do_not_decide_alone():
    """Copies that show two ninths tell of chance, and that loudly; the others of a place."""
    some = masks(200)
    log_odds = some[:, 8:14, 8:14].mean((1, 2))
    log_odds[1::8] = np.random.default_rng(0).choice([-9, 9], len(log_odds[1::8]))
    likely = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
    by_chance, found = supposed(some, likely), saliency(some, likely, len(some))
    hottest, otherwise = (np.unravel_index(one.argmax(), one.shape) for one in (found, by_chance))
    np.testing.assert_allclose(hottest, (11, 11), atol=4)
    assert np.abs(np.subtract(otherwise, 11)).max() > 4


def test_the_map_is_smoothed():
    """Masks without any smoothness, and a network that sees one pixel of them: it shows in the next, too."""
    some = (np.random.default_rng(0).random((400, SIDE, SIDE)) < 0.5).astype(np.float32)
    likely = np.where(some[:, 28, 28] > 0, 0.9, 0.1).astype(np.float32)
    plain, found = supposed(some, likely), saliency(some, likely, len(some))
    assert abs(plain[28, 29]) < plain[28, 28] / 5
    assert found[28, 29] == pytest.approx(found[28, 28] / 2, rel=0.3)


def test_a_class_that_nothing_changes_has_no_places():
    for probability in (0, 0.3, 1):
        assert (np.abs(asked(lambda some, same=probability: np.full(len(some), same))) < 1e-5).all()


def test_what_is_enlarged_lies_where_it_lay():
    small = np.zeros((SIDE, SIDE), np.float32)
    small[10:20, 30:40] = 1
    large = enlarged(small, (224, 448))
    assert large.shape == (224, 448)
    assert np.argwhere(large == 1).min(0).tolist() == pytest.approx([40, 240], abs=4)
    assert np.argwhere(large == 1).max(0).tolist() == pytest.approx([80, 320], abs=8)
