"""What is put beside an item to see whether it harms it."""

import numpy as np
import pytest

from export.graphs.checks.neighbours import neighbours_of

IDS = [{"ids": np.array(row, np.int64)} for row in ([5, 9], [7, 6])]


def rows(samples: list, integers: dict | None = None) -> set[tuple]:
    made = neighbours_of(samples, integers or {})
    return {tuple(np.ravel(next(iter(item.values()))).tolist()) for item in made.values()}


def test_integers_are_those_of_the_samples_and_what_pads():
    assert rows(IDS) == {(7, 9), (5, 6), (7, 6), (0, 0), (1, 1)}


def test_integers_that_the_caller_knows_are_used():
    assert rows(IDS, {"ids": (-1, 99)}) - rows(IDS) == {(-1, -1), (99, 99)}
    unsigned = [{"ids": sample["ids"].astype(np.uint16)} for sample in IDS]
    assert rows(unsigned, {"ids": (-1, 99, 1 << 16)}) - rows(unsigned) == {(99, 99)}


@pytest.mark.parametrize(
    ("dtype", "least", "most"), [(np.uint8, 0, 255), (np.int8, -128, 127), (np.bool_, 0, 1)]
)
def test_bytes_and_booleans_take_their_limits(dtype, least: int, most: int):
    samples = [{"x": np.array([0, 1], dtype)}]
    assert {(least, least), (most, most)} <= rows(samples)


def test_each_input_is_zero_once_by_itself():
    sample = {"x": np.array([2, 3], np.float32), "mask": np.array([1, 1], np.int64)}
    made = neighbours_of([sample], {})
    item = made["a sample whose mask is zero"]
    assert item["mask"].tolist() == [0, 0]
    assert item["x"].tolist() == [2, 3]
    assert made["a neighbour of zeros"]["x"].tolist() == [0, 0]


def test_floats_are_huge_infinite_and_nan():
    made = neighbours_of([{"x": np.array([1.5, -2], np.float16)}], {})
    values = np.array([item["x"] for item in made.values()])
    assert np.isnan(values).any()
    assert np.isinf(values).any()
    assert np.abs(values[np.isfinite(values)]).max() > 1e4
    assert (values == 0).all(1).any()


def test_strings_are_empty_once():
    assert (b"", b"") in rows([{"x": np.array([b"a", b"b"], object)}])


def test_none_is_the_first_sample_and_none_is_there_twice():
    samples = [{"x": np.zeros(2, np.uint8)}, {"x": np.full(2, 255, np.uint8)}]
    made = [item["x"].tobytes() for item in neighbours_of(samples, {}).values()]
    assert len(made) == len(set(made))
    assert samples[0]["x"].tobytes() not in made
