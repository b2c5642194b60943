"""The convolutions that both text networks share: columns of grey pixels become steps of features.

Sizes and module names are those of the checkpoint in `legere` 0.11.0, a depthwise separable CNN.
"""

import torch
from torch import nn

__all__ = ["FEATURES", "HEIGHT", "PAST_COLUMNS", "RECEPTIVE_COLUMNS", "STEP_COLUMNS", "LineCNN"]

HEIGHT = 32  # rows of a line
STEM_CHANNELS = 24

# channels out, (vertical, horizontal) stride
BLOCKS = ((48, (2, 2)), (64, (1, 1)), (96, (2, 1)), (128, (1, 1)), (160, (2, 1)), (192, (2, 1)))
FEATURES = BLOCKS[-1][0]

# Along the width, a 3-wide kernel adds 2 inputs of its own, and the strides before it say how many columns
# these are: the stem (stride 2) sees 3 columns, the first block (stride 2) 3 + 2 * 2 = 7, and each of the
# five others 2 * 4 = 8 more.
STEP_COLUMNS = 4  # from one step of features to the next
RECEPTIVE_COLUMNS = 47  # that one step depends on
# Without padding, w columns after 44 others give exactly w / 4 steps (w a multiple of 4): step t sees
# columns 4 t to 4 t + 46 of these 44 + w, so the last one ends one column before the end.
PAST_COLUMNS = 44


class Separable(nn.Module):
    """A 3x3 filter per channel, then a 1x1 mixture of the channels; batch norm and ReLU after both."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: tuple[int, int], padding: tuple[int, int]
    ):
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels_in, channels_in, 3, stride, padding, groups=channels_in, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, in, h, w] -> [batch, out, ...]: a side s is (s + 2 * padding - 3) // stride + 1 then."""
        x = self.bn1(self.depthwise(x)).relu()
        return self.bn2(self.pointwise(x)).relu()


class LineCNN(nn.Module):
    """The base of `TextRecognizer` and `TextStream`, which have the same weights here.

    `pad_width`: pad the width with zeros, as the recogniser does; the height is always padded. Zero is a
    middle grey between -1, black, and 1, white.
    """

    def __init__(self, pad_width: bool):
        super().__init__()
        padding = (1, int(pad_width))
        self.stem = nn.Sequential(
            nn.Conv2d(1, STEM_CHANNELS, 3, stride=2, padding=padding, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
            nn.ReLU(),
        )
        blocks, channels = [], STEM_CHANNELS
        for channels_out, stride in BLOCKS:
            blocks.append(Separable(channels, channels_out, stride, padding))
            channels = channels_out
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # PyTorch's default lets the signal fade before it is trained
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def features(self, grey: torch.Tensor) -> torch.Tensor:
        """Grey FP32 [batch, 32, w], -1 black to 1 white -> features FP32 [batch, steps, 192].

        There are ceil(w / 4) steps with padding, and (w - 44) / 4 without (w a multiple of 4).
        """
        planes = self.blocks(self.stem(grey.unsqueeze(1)))  # [batch, 192, 1, steps]
        return planes.squeeze(2).transpose(1, 2)
