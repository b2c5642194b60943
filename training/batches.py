"""Lines of similar widths side by side, padded with white on the right."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from training.lines import HEIGHT, LineSource
from training.metrics import indices

__all__ = ["Batch", "pad_lines", "training_batches"]

BUFFER = 768  # lines that are sorted by width together
COLUMNS = 14_000  # of one batch
MOST_LINES = 96
WHITE = 255
CLEAN_SHARE = 0.3
SHORT_LINES = 20  # characters, while a network is new


@dataclass(frozen=True)
class Batch:
    """`lines` UINT8 [b, 32, w], w a multiple of 4; `targets` INT64, all lines' classes on end."""

    lines: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor


def pad_lines(lines: list[np.ndarray], width: int) -> torch.Tensor:
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
        longest = SHORT_LINES if first < short_until else 60
        lines = []
        for number in range(first, first + BUFFER):
            choice = np.random.default_rng((source.seed, 99, number)).random()
            lines.append(
                source.line(number, "clean" if choice < CLEAN_SHARE else "degraded", longest=longest)
            )
        first += BUFFER
        lines.sort(key=lambda line: line.pixels.shape[1])
        random = np.random.default_rng((source.seed, 98, first))
        groups, start = [], 0
        while start < len(lines):
            count = 1
            while (
                start + count < len(lines)
                and count < MOST_LINES
                and (count + 1) * (lines[start + count].pixels.shape[1] + least_padding + 32) <= COLUMNS
            ):
                count += 1
            groups.append(lines[start : start + count])
            start += count
        for i in random.permutation(len(groups)):
            width = groups[i][-1].pixels.shape[1] + least_padding + random.integers(65)
            texts = [indices(line.text) for line in groups[i]]
            yield (
                Batch(
                    pad_lines([line.pixels for line in groups[i]], -(-int(width) // 4) * 4),
                    torch.tensor([index for text in texts for index in text]),
                    torch.tensor([len(text) for text in texts]),
                ),
                first,
            )
