"""Batches of lines."""

import torch

from training import batches
from training.batches import training_batches


def test_batches_hold_whole_lines_and_trailing_white(source, small):
    stream = training_batches(source, first=0, least_padding=32)
    for _ in range(6):
        batch, following = next(stream)
        assert following % batches.BUFFER == 0
        assert batch.lines.dtype == torch.uint8
        assert batch.lines.shape[2] % 4 == 0
        assert (batch.lines[:, :, -32:] == 255).all()
        assert int(batch.target_lengths.sum()) == len(batch.targets)
        assert batch.targets.min() >= 1
