"""A tiny GRU classifier, for measuring what a server adds to a small request. Its weights are random.

    python -m export perf/benchmarks/tiny_gru.py:spec --random-weights --model-repository FOLDER

Alone, ONNX Runtime answers it in well under 0.1 ms, so nearly all of a served request's time is the server's.
The seed of random weights is fixed: each export on one machine gives the same file.
"""

import torch
from torch import nn

from export import ModelSpec, Tensor
from export.networks.gru import GRU

__all__ = ["TinyGRU", "spec"]

STEPS, INPUTS, HIDDEN, CLASSES = 32, 32, 128, 10
MAX_BATCH_SIZE = 64


class TinyGRU(nn.Module):
    """FP32 [batch, STEPS, INPUTS] -> probabilities FP32 [batch, CLASSES], from the last hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = GRU(INPUTS, HIDDEN)
        self.classifier = nn.Linear(HIDDEN, CLASSES)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        """Shapes are the class's; the first hidden state is zeros."""
        _, last = self.gru(sequence)
        probabilities: torch.Tensor = self.classifier(last[:, 0]).softmax(1)
        return probabilities


spec = ModelSpec(
    name="tiny_gru",
    network=TinyGRU,
    served=lambda network: network,
    inputs=(Tensor("sequence", "float32", (STEPS, INPUTS)),),
    outputs=(Tensor("probabilities", "float32", (CLASSES,)),),
    max_batch_size=MAX_BATCH_SIZE,
    tolerance=1e-5,
    queue_limit=0,
)
