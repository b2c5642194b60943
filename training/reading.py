"""Networks as readers of lines."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from training.batches import pad_lines
from training.metrics import greedy_text
from training.recipes import Recipe

__all__ = ["read_lines"]

LINES = 32  # of one batch


@torch.inference_mode()
def read_lines(recipe: Recipe, network: nn.Module, lines: list[NDArray[Any]]) -> list[str]:
    """Greedy texts of lines UINT8 [32, w], padded with white to the next 32 columns and the recipe's own."""
    order = sorted(range(len(lines)), key=lambda i: lines[i].shape[1])
    texts = [""] * len(lines)
    for start in range(0, len(order), LINES):
        chosen = order[start : start + LINES]
        width = max(lines[i].shape[1] for i in chosen) + recipe.least_padding
        log_probs = recipe.read(network, pad_lines([lines[i] for i in chosen], -(-width // 32) * 32)).numpy()
        for i, item in zip(chosen, log_probs, strict=True):
            texts[i] = greedy_text(item)
    return texts
