"""Networks whose answers are as alone (RIGHT), and that depend on their neighbours (WRONG), with samples."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

RANDOM = np.random.default_rng(7)
FLOATS = [{"x": RANDOM.normal(RANDOM.normal(), 1, 8).astype(np.float32)} for _ in range(8)]
LINES = [{"x": RANDOM.normal(0, 1, (size, 4)).astype(np.float32)} for size in (12, 12, 5, 12, 5)]
PIXELS = [{"x": RANDOM.integers(low, low + 90, (16, 16, 3), np.uint8)} for low in (0, 40, 80, 160)]
TOKENS = [{"x": RANDOM.integers(0, 10, 6).astype(np.int64)} for _ in range(4)]
TOLERANCE = 1e-4


def seeded(module: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return module().eval()


LINEAR = seeded(lambda: nn.Linear(8, 4))


def in_torch(forward: Callable) -> Callable:
    """What `check_batching` calls: every result is an output, y0, y1, ..."""

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            answer = forward(*(torch.from_numpy(array) for array in batch.values()))
        answers = answer if isinstance(answer, tuple) else (answer,)
        return {f"y{number}": tensor.numpy() for number, tensor in enumerate(answers)}

    return run


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.permute(0, 3, 1, 2).float() / 255).flatten(1).softmax(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0]).log_softmax(2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).mean(1)


def cut_at_the_end(x: torch.Tensor) -> torch.Tensor:
    """Zeros after each line's own end: what a padded model does right."""
    ends = (x[:, :, 0] > 0).sum(1)
    return x * (torch.arange(x.shape[1]) < ends[:, None])[:, :, None]


EMBEDDING = seeded(lambda: nn.Embedding(10, 4))

RIGHT = {
    "linear": (LINEAR, FLOATS),
    "softmax over classes": (lambda x: LINEAR(x).softmax(1), FLOATS),
    "divided by its own maximum": (lambda x: LINEAR(x) / LINEAR(x).abs().amax(1, keepdim=True), FLOATS),
    "layer norm": (lambda x: F.layer_norm(x, (8,)), FLOATS),
    "batch norm in evaluation": (seeded(lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))), FLOATS),
    "instance norm": (lambda x: F.instance_norm(x.transpose(1, 2)), LINES),
    "sorted within": (lambda x: (LINEAR(x).sort(1)[0], LINEAR(x).argmax(1)), FLOATS),
    "a scalar for each item": (lambda x: LINEAR(x)[:, 0], FLOATS),
    "convolutions over pixels": (seeded(ConvNet), PIXELS),
    "a GRU of two directions": (seeded(Recurrent), LINES),
    "attention within": (seeded(Attention), LINES),
    "a length of its own": (cut_at_the_end, LINES),
    "an embedding that takes ten words": (lambda x: EMBEDDING(x).mean(1), TOKENS),
    "large answers": (lambda x: LINEAR(x) * 1e6, FLOATS),
    "answers that are no numbers": (lambda x: LINEAR(x).sqrt(), FLOATS),
    "a state that goes on": (lambda x: (LINEAR(x), x + 1), FLOATS),
    "a boolean": (lambda x: LINEAR(x) > 0, FLOATS),
}


def batch_norm_in_training(x: torch.Tensor) -> torch.Tensor:
    y = LINEAR(x)
    return (y - y.mean(0)) / (y.var(0, unbiased=False) + 1e-5).sqrt()


def longest_of_the_batch(x: torch.Tensor) -> torch.Tensor:
    ends = (x[:, :, 0] > 0).sum(1)
    return x[:, : int(ends.max())]


def masked_to_the_longest(x: torch.Tensor) -> torch.Tensor:
    longest = (x[:, :, 0] > 0).sum(1).max()
    return x * (torch.arange(x.shape[1]) < longest)[:, None]


def wrong_in_a_full_batch(x: torch.Tensor) -> torch.Tensor:
    return LINEAR(x) + (1 if len(x) == 16 else 0)


def wrong_beside_large_values(x: torch.Tensor) -> torch.Tensor:
    return LINEAR(x) * (x.abs().max() < 100)


def wrong_beside_thousands(x: torch.Tensor) -> torch.Tensor:
    size = x.abs()
    return LINEAR(x) + ((size > 200) & (size < 1e6)).any()


def wrong_beside_the_huge_and_finite(x: torch.Tensor) -> torch.Tensor:
    return LINEAR(x) + ((x.abs() > 1e20) & x.isfinite()).any()


def wrong_beside_infinity(x: torch.Tensor) -> torch.Tensor:
    return LINEAR(x) + x.isinf().any()


def with_a_mean_times_nothing(x: torch.Tensor) -> torch.Tensor:
    """Equal to a linear layer, until a neighbour is infinite or no number."""
    return LINEAR(x) + 0 * LINEAR(x).mean(0)


def quantised_by_the_batch(x: torch.Tensor) -> torch.Tensor:
    scale = x.abs().max() / 127
    return LINEAR((x / scale).round() * scale)


WRONG = {
    "softmax over the batch": (lambda x: LINEAR(x).softmax(0), FLOATS),
    "divided by the largest of all": (lambda x: LINEAR(x) / LINEAR(x).abs().max(), FLOATS),
    "the batch's mean subtracted": (lambda x: LINEAR(x) - LINEAR(x).mean(0), FLOATS),
    "batch norm in training": (batch_norm_in_training, FLOATS),
    "as long as the longest": (longest_of_the_batch, LINES),
    "masked by the longest": (masked_to_the_longest, LINES),
    "sorted over the batch": (lambda x: LINEAR(x).sort(0)[0], FLOATS),
    "the best of the batch": (lambda x: LINEAR(x).argmax(0, keepdim=True).expand(len(x), -1).clone(), FLOATS),
    "summed over the batch": (lambda x: LINEAR(x).cumsum(0), FLOATS),
    "the neighbour's answer": (lambda x: LINEAR(x).roll(1, 0), FLOATS),
    "the neighbour's, a little": (lambda x: LINEAR(x) + 0.01 * LINEAR(x).roll(-1, 0), FLOATS),
    "the first item's for all": (lambda x: LINEAR(x[:1]).expand(len(x), -1).clone(), FLOATS),
    "only in a full batch": (wrong_in_a_full_batch, FLOATS),
    "divided by the batch size": (lambda x: LINEAR(x) / len(x), FLOATS),
    "only beside large values": (wrong_beside_large_values, FLOATS),
    "only beside thousands": (wrong_beside_thousands, FLOATS),
    "only beside the huge": (wrong_beside_the_huge_and_finite, FLOATS),
    "only beside infinity": (wrong_beside_infinity, FLOATS),
    "only beside NaN": (lambda x: LINEAR(x) + x.isnan().any(), FLOATS),
    "a mean times nothing": (with_a_mean_times_nothing, FLOATS),
    "only beside zeros": (lambda x: LINEAR(x) + (x == 0).all(1).any(), FLOATS),
    "a scale of the batch": (quantised_by_the_batch, FLOATS),
    "layer norm over the batch too": (lambda x: F.layer_norm(x, x.shape[:2]), FLOATS),
    "the batch as time": (lambda x: seeded(lambda: nn.GRU(8, 4))(x)[0], FLOATS),
    "flattened into one": (lambda x: LINEAR(x.flatten().roll(4).view(x.shape)), FLOATS),
    "attention over the batch": (
        lambda x: F.scaled_dot_product_attention(
            x.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1)
        ).transpose(0, 1),
        LINES,
    ),
    "pixels by the brightest of all": (lambda x: x.float() / x.max(), PIXELS),
    "words in the batch": (lambda x: (x[:, None] == x.flatten()[None, :, None]).sum(1).float(), TOKENS),
    "the second output alone": (lambda x: (LINEAR(x), LINEAR(x) - LINEAR(x).mean(0)), FLOATS),
}
