"""Samples for a model of which only the tensors are known: sizes that it runs at, numbers that it takes.

Knows nothing of what runs: it is given a function that answers one item, or raises.
"""

import itertools
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.common.errors import SpecError
from export.common.wording import said_by
from server.environment.regular_files import regular

__all__ = ["Input", "Samples", "find_samples", "integers_in_words", "read_samples", "sizes_in_words"]

Item = dict[str, NDArray[Any]]

SIZES = (32, 64, 40, 224, 7, 128, 16, 3, 1, 2, 4, 8, 80, 160, 256, 320, 384, 480, 512, 640)
ENOUGH_SIZES = 4  # that run; then no more are tried
TRIED_TOGETHER = 8  # sizes that are tried whatever came of the first ones
SLOW_S = 2.0  # of one item: larger ones are not tried after it
MOST_ELEMENTS = 64 * 2**20
TOP_INTEGERS = (255, 9, 1, 0)  # tried in turn, where the graph does not say what an index may be
PER_SIZE = 4


@dataclass(frozen=True)
class Input:
    """One input of an item. dims: numbers, or symbols (any hashable) where any size will do; equal symbols
    have equal sizes. top: the largest integer that it takes, if that is known."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[object, ...]
    top: int | None = None

    @property
    def symbols(self) -> list[object]:
        """The open dims, in order; one that occurs twice is there twice."""
        return [dim for dim in self.dims if not isinstance(dim, int)]

    @property
    def is_mask(self) -> bool:
        """By its name: of integers, 0 where there is padding and 1 elsewhere."""
        return "mask" in self.name.lower()

    @property
    def is_index(self) -> bool:
        """May it be one, or count something? Bytes are pixels mostly, and take all values."""
        return self.dtype.kind in "iu" and self.dtype.itemsize > 1 and not self.is_mask


@dataclass
class Samples:
    """items: of all sizes that run. sizes, refused: what each size of the open dims came to, in words.
    seconds: that an item takes, of the smallest size that ran. top: the largest of their integers, where no
    input says which it takes."""

    items: list[Item] = field(default_factory=list)
    sizes: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    top: int | None = None

    def integers(self, inputs: Sequence[Input]) -> dict[str, tuple[int, ...]]:
        """By input: the largest integer that it is known, or was found, to take."""
        tops = {one.name: self.top if one.top is None else one.top for one in inputs if one.is_index}
        return {name: (top,) for name, top in tops.items() if top is not None}


def find_samples(
    run: Callable[[Item], object],
    inputs: Sequence[Input],
    limits: Mapping[Any, int] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Samples:
    """Random samples at several sizes of the open dims, of those that `run` takes.

    limits: the largest size of a symbol, where one is declared. Raises `SpecError` when none of the sizes and
    numbers that were tried runs, with what was said.
    """
    found, top = Samples(), None
    for tried, sizes in enumerate(_assignments(inputs, limits or {})):
        if len(found.sizes) >= ENOUGH_SIZES and tried >= TRIED_TOGETHER:
            break
        words = "x".join(map(str, sizes.values()))
        if sum(_elements(one, sizes) for one in inputs) > MOST_ELEMENTS:
            continue
        progress(words)
        tops = [top] if top is not None else TOP_INTEGERS if _has_indices(inputs) else TOP_INTEGERS[:1]
        started = time.monotonic()
        for attempt in tops:
            items = [_random_item(inputs, sizes, attempt, seed) for seed in range(PER_SIZE)]
            try:
                for item in items:
                    run(item)
            except Exception as error:  # of whatever runs
                found.refused[words] = said_by(error)
                continue
            top = attempt
            found.refused.pop(words, None)
            found.top = attempt if _has_indices(inputs) else None
            found.seconds = found.seconds or (time.monotonic() - started) / len(items)
            found.items += items
            found.sizes.append(words)
            break
        if time.monotonic() - started > SLOW_S * PER_SIZE and found.sizes:
            break
    if not found.items:
        tries = list(found.refused.items())
        shown = dict([*tries[:2], *tries[-1:]])
        raise SpecError(
            "no sample could be made that the model answers; give some that it does with --samples FILE.npz "
            "(arrays by input name, items first)"
            + "".join(f"\n  at {words or 'its size'}: {said[:300]}" for words, said in shown.items())
        )
    return found


def read_samples(path: Path, inputs: Sequence[Input]) -> Samples:
    """Those of an .npz file: an array for each input by its name, with the items in its first dimension.

    Raises `SpecError` when the file cannot be read, or does not fit.
    """
    try:
        with np.load(regular(path), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise SpecError(
            f"{path} cannot be read as an .npz file of arrays: {error}; make one with "
            "numpy.savez(path, **arrays); strings as arrays of bytes (dtype S) or of str (dtype U)"
        ) from error
    names = [one.name for one in inputs]
    if sorted(arrays) != sorted(names):
        raise SpecError(f"{path} has arrays {sorted(arrays)}, and the model takes {sorted(names)}")
    counts = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or not counts.copy().pop():
        raise SpecError(f"the arrays of {path} have {sorted(counts)} items; give each the same, one or more")
    for one in inputs:
        array = arrays[one.name]
        if array.dtype.kind in "SU" and one.dtype == object:
            arrays[one.name] = array = _strings(array)
        dims = array.shape[1:]
        fits = len(dims) == len(one.dims) and all(
            not isinstance(dim, int) or dim == size for dim, size in zip(one.dims, dims, strict=True)
        )
        if array.dtype != one.dtype or not fits:
            raise SpecError(
                f"{one.name} of {path} is {array.dtype} with items of {list(dims)}; the model takes "
                f"{'bytes' if one.dtype == object else one.dtype} of {list(one.dims)}"
            )
    items = [{name: arrays[name][at, ...] for name in names} for at in range(counts.pop())]
    return Samples(items, [f"those of {path.name}"])


def _strings(array: NDArray[Any]) -> NDArray[Any]:
    return np.array(
        [value if isinstance(value, bytes) else str(value).encode() for value in array.flat], dtype=object
    ).reshape(array.shape)


def _assignments(inputs: Sequence[Input], limits: Mapping[object, int]) -> list[dict[object, int]]:
    """Sizes to try: all symbols alike, then unlike; within their limits, and at them."""
    symbols = list(dict.fromkeys(symbol for one in inputs for symbol in one.symbols))
    if not symbols:
        return [{}]
    alike = [dict.fromkeys(symbols, size) for size in SIZES]
    unlike = [{symbol: SIZES[(at + turn) % 3] for at, symbol in enumerate(symbols)} for turn in range(2)]
    wanted = (*alike[:3], *(unlike if len(symbols) > 1 else ()), *alike[3:])
    bounded = [
        {symbol: min(size, limits.get(symbol, size)) for symbol, size in sizes.items()} for sizes in wanted
    ]
    if limits:
        bounded.insert(1, {symbol: limits.get(symbol, SIZES[0]) for symbol in symbols})
    return list({tuple(sizes.items()): sizes for sizes in bounded}.values())


def _elements(one: Input, sizes: Mapping[object, int]) -> int:
    return int(np.prod(_shape(one, sizes), dtype=np.float64))


def _shape(one: Input, sizes: Mapping[object, int]) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in one.dims)


def _has_indices(inputs: Sequence[Input]) -> bool:
    return any(one.dtype.kind in "iu" and one.top is None for one in inputs)


def integers_in_words(samples: Samples, inputs: Sequence[Input]) -> str:
    """Which integers were tried of those that an input may take; "" where all were, or those it says."""
    names = [one.name for one in inputs if one.is_index and one.top is None]
    if samples.top is None or not names:
        return ""
    return (
        f"integers of 0 to {samples.top} were tried for {', '.join(names)}: where it takes others, give some "
        "with --samples"
    )


def _random_item(inputs: Sequence[Input], sizes: Mapping[object, int], top: int, seed: int) -> Item:
    random = np.random.default_rng(seed)
    return {one.name: _random(random, one, _shape(one, sizes), top) for one in inputs}


def _random(random: np.random.Generator, one: Input, shape: tuple[int, ...], top: int) -> NDArray[Any]:
    """Each of a level of its own: pure noise looks alike to most networks."""
    kind = one.dtype.kind
    if kind == "f":
        return np.asarray(random.normal(random.normal(), 1.0, shape)).astype(one.dtype)
    if kind == "b":
        return np.asarray(random.random(shape) < random.random())
    if kind == "O":
        words = [f"{word}".encode() for word in ("a", "text", "1", "of 4 words here")]
        chosen = [words[at] for at in random.integers(0, len(words), int(np.prod(shape)))]
        return np.array(chosen, dtype=object).reshape(shape)
    most = min(one.top if one.top is not None else top, int(np.iinfo(one.dtype).max))
    if one.is_mask:  # ones, then zeros, as padding is masked
        ones = random.integers(1, max(2, shape[-1] + 1)) if shape else 1
        return (
            np.broadcast_to(np.arange(shape[-1] if shape else 1) < ones, shape or (1,))
            .astype(one.dtype)
            .reshape(shape)
        )
    low, high = sorted(random.integers(0, most, 2, endpoint=True))
    return np.asarray(random.integers(low, high, shape, endpoint=True)).astype(one.dtype)


def sizes_in_words(samples: Samples, inputs: Sequence[Input], most: int = 6) -> str:
    """Which sizes ran, and which did not."""
    symbols = dict.fromkeys(str(symbol) for one in inputs for symbol in one.symbols)
    refused = list(itertools.islice(samples.refused, most))
    return (
        f"its open dims ({' x '.join(symbols)}) run at {', '.join(samples.sizes[:most])}"
        + (f", not at {', '.join(refused)}" if refused else "")
        + "; --dims fixes what is not open"
    )
