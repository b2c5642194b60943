"""A whole line of text at once: CNN, bidirectional GRU, CTC. The architecture of `legere` 0.11.0."""

import torch
import torch.nn.functional as F
from torch import nn

from export.networks.gru import GRU
from export.networks.text.charset import BLANK, CLASSES
from export.networks.text.line_cnn import FEATURES, STEP_COLUMNS, LineCNN

__all__ = ["TextRecognizer"]

HIDDEN = 128  # per direction
WHITE_STEPS = 4  # that are read after the last column that is not white
WHITE_COLUMNS = 48  # that the CNN sees after the line: more than the steps that are read depend on
IMPOSSIBLE = -100.0  # natural logarithm; finite, so that differences of it are numbers


class TextRecognizer(LineCNN):
    """Line UINT8 [batch, 32, w] -> log-probabilities FP32 [batch, ceil(w / 4), 122], natural logarithms.

    The line is grey, dark on light, of any width; class 0 is the CTC blank (`export.networks.text.charset`).
    White columns on the right change nothing: both directions read up to four steps after the last column
    that is not white, the CNN sees 48 white columns after the line however wide it is, and later steps are
    blanks. So lines of different widths can be padded to one and share a batch.
    Loads legere's checkpoint as it is; pixels are scaled to -1 to 1 here, in the graph.
    """

    def __init__(self) -> None:
        super().__init__(pad_width=True)
        self.rnn = GRU(FEATURES, HIDDEN, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, line: torch.Tensor) -> torch.Tensor:
        """Shapes are the class's; where each line ends is found in its pixels."""
        grey = line.to(torch.float32) / 127.5 - 1
        steps = (line.shape[2] + STEP_COLUMNS - 1) // STEP_COLUMNS
        columns = torch.arange(1, line.shape[2] + 1, device=line.device)
        ends = torch.where(grey.amin(1) < 1, columns, 0).amax(1)  # of the last column that is not white
        lengths = (ends + STEP_COLUMNS - 1) // STEP_COLUMNS + WHITE_STEPS
        features = self.features(F.pad(grey, (0, WHITE_COLUMNS), value=1.0))
        outputs, _ = self.rnn(features, lengths=lengths)
        log_probs = self.head(outputs[:, :steps]).log_softmax(2)
        is_read = torch.arange(steps, device=line.device) < lengths[:, None]
        blank = torch.where(torch.arange(CLASSES, device=line.device) == BLANK, 0.0, IMPOSSIBLE)
        return torch.where(is_read[:, :, None], log_probs, blank)
