"""A line of text as it passes a line-scan camera, strip by strip: causal CNN, textbook GRU, CTC.

Nothing looks ahead: a step depends on its own columns and on those before. What of these is needed is
handed on as two states, so strip by strip equals an unbroken run, and a strip costs the same anywhere.
"""

import torch
import torch.nn.functional as F
from torch import nn

from export.networks.gru import GRU
from export.networks.text.charset import CLASSES
from export.networks.text.line_cnn import FEATURES, PAST_COLUMNS, LineCNN

__all__ = ["HIDDEN", "STRIP_COLUMNS", "TextStream"]

HIDDEN = 256
STRIP_COLUMNS = 32  # 8 steps


class TextStream(LineCNN):
    """The recogniser's convolutions, without padding along the width, and a GRU in one direction.

    `stem` and `blocks` have the recogniser's names and shapes, so they can start from its weights. Columns
    before the line's first are white, which zeros in both states mean.
    """

    def __init__(self) -> None:
        super().__init__(pad_width=False)
        self.rnn = GRU(FEATURES, HIDDEN, reset_after=False)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(
        self, strip: torch.Tensor, column_state: torch.Tensor, gru_state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The next columns of a line, and the states that the ones before left.

        strip           UINT8 [batch, 32, 32], grey, dark on light (any multiple of 4 columns will do)
        column_state    FP32 [batch, 32, 44], the last columns as ink: 0 white to 1 black
        gru_state       FP32 [batch, 1, 256]
        returns         log-probabilities FP32 [batch, 8, 122] (natural; class 0 is the blank), both states
        """
        columns = torch.cat((column_state, _ink(strip)), 2)
        log_probs, gru_state = self._read(columns, gru_state)
        return log_probs, columns[:, :, -PAST_COLUMNS:], gru_state

    def forward_line(self, line: torch.Tensor) -> torch.Tensor:
        """A whole line in one run, for training: UINT8 [batch, 32, w] -> [batch, w / 4, 122].

        w is a multiple of 4. The same as `forward` on its strips one after the other.
        """
        return self._read(F.pad(_ink(line), (PAST_COLUMNS, 0)), None)[0]

    def _read(
        self, columns: torch.Tensor, gru_state: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        outputs, gru_state = self.rnn(self.features(1 - 2 * columns), gru_state)
        return self.head(outputs).log_softmax(2), gru_state


def _ink(grey: torch.Tensor) -> torch.Tensor:
    return 1 - grey.to(torch.float32) / 255
