"""A whole line of text at once: CNN, bidirectional GRU, CTC. The architecture of `legere` 0.11.0."""

import torch
from torch import nn

from export.networks.charset import CLASSES
from export.networks.gru import GRU
from export.networks.line_cnn import FEATURES, LineCNN

__all__ = ["TextRecognizer"]

HIDDEN = 128  # per direction


class TextRecognizer(LineCNN):
    """Line UINT8 [batch, 32, w] -> log-probabilities FP32 [batch, ceil(w / 4), 122], natural logarithms.

    The line is grey, dark on light, of any width; class 0 is the CTC blank (`export.networks.charset`).
    Loads legere's checkpoint as it is; pixels are scaled to -1 to 1 here, in the graph.
    """

    def __init__(self):
        super().__init__(pad_width=True)
        self.rnn = GRU(FEATURES, HIDDEN, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, line: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.rnn(self.features(line.to(torch.float32) / 127.5 - 1))
        return self.head(outputs).log_softmax(2)
