"""Samples that are made up where a spec gives none."""

import numpy as np
import pytest

from export import Tensor
from export.sources.samples import VARIABLE_SIZES, random_samples


def sizes(*inputs: Tensor) -> list[int]:
    return list(dict.fromkeys(sample[0].shape[0] for sample in random_samples(inputs)))


@pytest.mark.parametrize("most", [1, 2, 3, 7, 23, 24, 32, 64, 71])
def test_none_is_larger_than_max_dims(most: int):
    found = sizes(Tensor("x", "float32", (-1, 4), max_dims=(most, 4)))
    assert max(found) == most
    assert len(found) > 1 or most == 1
    assert all(size % 8 == 0 for size in found[:-1]) or most < 24


@pytest.mark.parametrize("most", [72, 96, 1024])
def test_ample_bounds_change_nothing(most: int):
    assert sizes(Tensor("x", "float32", (-1, 4), max_dims=(most, 4))) == list(VARIABLE_SIZES)


def test_open_dims_are_alike_and_within_the_least_bound():
    inputs = (
        Tensor("x", "float32", (-1, 4), max_dims=(64, 4)),
        Tensor("mask", "bool", (-1,), max_dims=(32,)),
    )
    for x, mask in random_samples(inputs):
        assert len(x) == len(mask) <= 32


def test_samples_of_a_size_are_unlike():
    samples = random_samples((Tensor("x", "float32", (-1,), max_dims=(1,)),))
    assert len(samples) == 8
    assert len(np.unique(np.stack([x for (x,) in samples]))) == 8
