"""What strangers may send beside an item: neighbours that are made of samples, the mildest first.

Floats are mixed, extreme, huge, infinite and NaN. Integers are those that samples have at the same place (of
a single sample: anywhere), 0 and 1, which pad, mask and count, and those that the caller knows the model to
take: an index out of its range may harm what runs. Bytes and booleans take their least and greatest, too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Item", "content_of", "is_finite", "neighbours_of"]

Item = Mapping[str, NDArray[Any]]  # the inputs of one item by name, without the batch dimension

LARGE = 1e3  # times a sample
ALWAYS = (0, 1)  # integers that all inputs take
MOST_INPUTS = 8  # of a model of which each input is once zero by itself


def neighbours_of(samples: Sequence[Item], integers: Mapping[str, Sequence[int]]) -> dict[str, Item]:
    """Items of the dims of the samples, which are alike, by what they are in words; none is the first sample.

    integers: by input, beside 0 and 1.
    """
    made: dict[str, Item] = {}
    known = {content_of(samples[0])}
    for kind, item in _candidates(samples, integers):
        if (content := content_of(item)) not in known:
            known.add(content)
            made[kind] = item
    return made


def _candidates(samples: Sequence[Item], integers: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Item]]:
    arrays = {name: [sample[name] for sample in samples] for name in samples[0]}
    makers = {
        "a mixture of samples": _mixed,
        "the least values of samples": _bound(np.min, 0),
        "the greatest values of samples": _bound(np.max, 1),
        "a mirrored sample": _mirrored,
    }
    for kind, make in makers.items():
        yield kind, {name: _made(make, own) for name, own in arrays.items()}
    yield "a neighbour of zeros", {name: _zeros(own[0]) for name, own in arrays.items()}
    if 1 < len(arrays) <= MOST_INPUTS:
        for name in arrays:
            yield f"a sample whose {name} is zero", {**samples[-1], name: _zeros(samples[-1][name])}
    values = {
        name: [value for value in dict.fromkeys((*ALWAYS, *integers.get(name, ()))) if _holds(own[0], value)]
        for name, own in arrays.items()
    }
    for at in range(max(map(len, values.values()), default=0)):
        item = {
            name: np.full_like(own[0], values[name][min(at, len(values[name]) - 1)])
            if values[name]
            else own[-1]
            for name, own in arrays.items()
        }
        used = dict.fromkeys(str(taken[min(at, len(taken) - 1)]) for taken in values.values() if taken)
        yield f"a neighbour whose integers are {', '.join(used)}", item
    float_makers: dict[str, Callable[[list[NDArray[Any]]], NDArray[Any]]] = {
        "a negated sample": lambda own: -own[-1],
        "a large neighbour": lambda own: _times(own[-1], LARGE),
        "a huge neighbour": _huge,
        "an infinite neighbour": lambda own: np.full_like(own[0], np.inf),
        "a NaN neighbour": lambda own: np.full_like(own[0], np.nan),
    }
    for kind, make in float_makers.items():
        yield (
            kind,
            {name: _made(make, own) if own[0].dtype.kind == "f" else own[-1] for name, own in arrays.items()},
        )


def is_finite(item: Item) -> bool:
    """Are all of its floats numbers?"""
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in item.values())


def content_of(item: Item) -> tuple[object, ...]:
    """Equal for items that are, of the same dims and types; NaN is equal to itself."""
    return tuple(
        repr(array.tolist()) if array.dtype.kind == "O" else array.tobytes() for array in item.values()
    )


def _zeros(array: NDArray[Any]) -> NDArray[Any]:
    """Zeros, or empty strings."""
    return np.full_like(array, b"") if array.dtype.kind == "O" else np.zeros_like(array)


def _holds(array: NDArray[Any], value: int) -> bool:
    """Is it an array of integers, or of booleans, of which one may be `value`?"""
    if array.dtype.kind == "b":
        return value in (0, 1)
    if array.dtype.kind not in "iu":
        return False
    limits = np.iinfo(array.dtype)
    return limits.min <= value <= limits.max


def _made(make: Callable[[list[NDArray[Any]]], NDArray[Any]], arrays: list[NDArray[Any]]) -> NDArray[Any]:
    kind = arrays[0].dtype.kind
    if kind == "O" and make is not _mixed:
        return arrays[-1]  # strings have no order that means anything
    return np.asarray(make(arrays)).astype(arrays[0].dtype).reshape(arrays[0].shape)


def _mixed(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Each element is that of a sample at the same place."""
    chosen = np.random.default_rng(0).integers(0, len(arrays), arrays[0].shape)
    mixed = arrays[0].copy()
    for index, array in enumerate(arrays):
        mixed[chosen == index] = array[chosen == index]
    return mixed


def _bound(reduce: Callable[..., Any], greatest: int) -> Callable[[list[NDArray[Any]]], NDArray[Any]]:
    """At each place the least or greatest that a sample has there; of one sample, its own, everywhere; of
    bytes, which pixels mostly are, and of booleans the limits of their type."""

    def make(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        dtype = arrays[0].dtype
        if dtype.kind == "b":
            return np.full_like(arrays[0], bool(greatest))
        if dtype.kind in "iu" and dtype.itemsize == 1:
            limits = np.iinfo(dtype)
            return np.full_like(arrays[0], limits.max if greatest else limits.min)
        if len(arrays) > 1 or not arrays[0].size:
            return reduce(arrays, axis=0)
        return np.full_like(arrays[0], reduce(arrays[0]))

    return make


def _mirrored(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    floats = arrays[0].dtype.kind == "f"
    return np.flip(arrays[0]) if floats or len(arrays) == 1 else arrays[-1]


def _times(array: NDArray[Any], factor: float) -> NDArray[Any]:
    limit = float(np.finfo(array.dtype).max)
    return np.clip(array.astype(np.float64) * factor, -limit, limit)


def _huge(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Near the largest number that the type has, its sign that of the sample."""
    return np.where(arrays[-1] < 0, -1.0, 1.0) * (float(np.finfo(arrays[0].dtype).max) / 4)
