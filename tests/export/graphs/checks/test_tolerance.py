"""How far two answers to the same item may be from each other."""

import numpy as np
import pytest

from export.graphs.checks.tolerance import difference, exceeds, tolerances

RANDOM = np.random.default_rng(0)


def test_differences_of_what_is_no_number():
    nan, inf = np.nan, np.inf
    one = np.array([1, nan, inf], np.float32)
    assert difference(one, one) == 0
    assert difference(one, np.array([1, 2, inf], np.float32)) == inf
    assert difference(one, np.array([1, nan, -inf], np.float32)) == inf
    assert difference(one, one[:2]) == inf
    assert difference(np.array([1, 5], np.uint8), np.array([3, 5], np.uint8)) == 2
    assert difference(np.array([True]), np.array([False])) == 1
    assert difference(np.array([b"a"], object), np.array([b"b"], object)) == inf


def answers(large: float, dtype: str = "float32") -> list[np.ndarray]:
    """Eight of one number of this size, and eleven scores."""
    return [
        np.concatenate([[large * RANDOM.uniform(0.5, 1)], RANDOM.uniform(0.01, 1, 11)]).astype(dtype)
        for _ in range(8)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("large", [1.0, 683.0, -2e4, -1e9, float(np.finfo(np.float32).min)])
def test_a_score_is_not_measured_by_what_is_beside_it(large: float, dtype: str):
    alone = answers(large if dtype != "float16" else np.clip(large, -6e4, 683), dtype)
    allowed = tolerances(alone)
    for one in alone:
        other = one.copy()
        other[3] += 0.9
        excess = exceeds(other, one, allowed)
        assert excess is not None
        assert 0.8 < excess.difference < 1
        assert excess.tolerance < 0.8


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("large", [1.0, 683.0])
def test_rounding_is_nothing_wherever_large_numbers_cancelled(large: float, dtype: str):
    """An element near zero has the noise of what it is the difference of."""
    alone = answers(large, dtype)
    for one in alone:
        one[5:] = 0
    allowed = tolerances(alone)
    noise = np.finfo(dtype).eps * large
    for one in alone:
        assert exceeds((one + RANDOM.uniform(-noise, noise, one.shape)).astype(dtype), one, allowed) is None


def test_all_that_is_large_is_a_measure_of_itself():
    alone = [np.full(3, 5e6, np.float32), np.full(3, 6e6, np.float32)]
    allowed = tolerances(alone)
    assert exceeds(alone[0] * np.float32(1.0005), alone[0], allowed) is None
    assert exceeds(alone[0] * np.float32(1.01), alone[0], allowed) is not None


def test_what_is_zero_alone_beside_banned_classes_is_measured_by_nothing():
    alone = [np.array([0, -1e9, 0], np.float32)] * 2
    assert exceeds(np.array([0.5, -1e9, 0], np.float32), alone[0], tolerances(alone)) is not None


def test_a_tolerance_that_is_given_is_that_of_all():
    one = np.array([1, 1e9], np.float32)
    assert exceeds(one + np.float32([0.4, 0]), one, tolerances([one], 0.5)) is None
    excess = exceeds(one + np.float32([0.6, 0]), one, tolerances([one], 0.5))
    assert (round(excess.difference, 2), excess.tolerance) == (0.6, 0.5)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_what_counts_is_equal_or_not(dtype):
    one = np.array([0, 1, 0], dtype)
    assert exceeds(one, one, tolerances([one])) is None
    assert exceeds(one[::-1].copy(), one, tolerances([one])) is None
    assert exceeds(np.roll(one, 1), one, tolerances([one])) is not None


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3, 2)])
def test_any_dims_will_do(shape: tuple[int, ...]):
    one = np.ones(shape, np.float32)
    allowed = tolerances([one, one])
    assert exceeds(one, one, allowed) is None
    assert bool(one.size) == (exceeds(one * 2, one, allowed) is not None)
    assert exceeds(np.ones((7, 7), np.float32), one, allowed).difference == np.inf
    nothing = np.full(shape, np.nan, np.float32)
    assert exceeds(nothing, nothing, tolerances([nothing])) is None
