"""Lines of similar widths side by side, padded with white on the right."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.lines.generator import HEIGHT, GeneratedLine, LineSource
from training.metrics import indices

__all__ = ["Batch", "pad_lines", "training_batches"]

BUFFER = 768  # lines that are sorted by width together
COLUMNS = 14_000  # of one batch
MOST_LINES = 96
WHITE = 255
CLEAN_SHARE = 0.3
SHORT_LINES, LONG_LINES = 20, 60  # most characters, while a network is new and later
MORE_PADDING = 65  # columns of white after a line beside the least, at random below this
LEVEL_STREAM, ORDER_STREAM = 99, 98  # of random numbers, beside the lines' own


@dataclass(frozen=True)
class Batch:
    """`lines` UINT8 [b, 32, w], w a multiple of 4; `targets` INT64, all lines' classes on end."""

    lines: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor


def pad_lines(lines: list[NDArray[Any]], width: int) -> torch.Tensor:
    """Lines UINT8 [32, w_i] -> [b, 32, width], white on the right."""
    padded = np.full((len(lines), HEIGHT, width), WHITE, np.uint8)
    for row, line in zip(padded, lines, strict=True):
        row[:, : line.shape[1]] = line
    return torch.from_numpy(padded)


def training_batches(
    source: LineSource, first: int, least_padding: int = 0, short_until: int = 0
) -> Iterator[tuple[Batch, int]]:
    """Endless batches from line number `first` on, each with the number of the next buffer's first line.

    A run that stops goes on with that number: the rest of its buffer is left out. Some white follows every
    line: `least_padding` columns at least and up to 64 more. Before line `short_until` lines are short.
    """
    while True:
        lines = _buffer(source, first, SHORT_LINES if first < short_until else LONG_LINES)
        first += BUFFER
        random = np.random.default_rng((source.seed, ORDER_STREAM, first))
        groups = _groups(lines, least_padding)
        for i in random.permutation(len(groups)):
            width = groups[i][-1].pixels.shape[1] + least_padding + int(random.integers(MORE_PADDING))
            texts = [indices(line.text) for line in groups[i]]
            batch = Batch(
                pad_lines([line.pixels for line in groups[i]], -(-width // 4) * 4),
                torch.tensor([index for text in texts for index in text]),
                torch.tensor([len(text) for text in texts]),
            )
            yield batch, first


def _buffer(source: LineSource, first: int, longest: int) -> list[GeneratedLine]:
    """`BUFFER` lines, the narrowest first."""
    lines = []
    for number in range(first, first + BUFFER):
        clean = np.random.default_rng((source.seed, LEVEL_STREAM, number)).random() < CLEAN_SHARE
        lines.append(source.line(number, "clean" if clean else "degraded", longest=longest))
    return sorted(lines, key=lambda line: line.pixels.shape[1])


def _groups(lines: list[GeneratedLine], least_padding: int) -> list[list[GeneratedLine]]:
    """Neighbours in width, as many as `COLUMNS` and `MOST_LINES` allow."""
    groups: list[list[GeneratedLine]] = [[]]
    for line in lines:
        columns = (len(groups[-1]) + 1) * (line.pixels.shape[1] + least_padding + MORE_PADDING // 2)
        if groups[-1] and (columns > COLUMNS or len(groups[-1]) == MOST_LINES):
            groups.append([])
        groups[-1].append(line)
    return groups
