"""ResNet-50 (He et al. 2015, table 1; stride in the 3x3 convolution), with torchvision's module names."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ResNet50"]

EXPANSION = 4  # channels out of a bottleneck, relative to its inner width

# inner width, blocks, stride of the first
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
STEM_CHANNELS = 64


class Bottleneck(nn.Module):
    """Narrow (1x1), filter (3x3), widen (1x1), added to its input or to a 1x1 projection of it."""

    def __init__(self, channels_in: int, width: int, stride: int):
        super().__init__()
        channels_out = width * EXPANSION
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample = None
        if stride > 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, in, h, w] -> [batch, 4 * width, ceil(h / stride), ceil(w / stride)]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """FP32 [batch, 3, 224, 224], ImageNet-normalised RGB -> logits FP32 [batch, 1000]."""

    def __init__(self, classes: int = 1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = STEM_CHANNELS
        for number, (width, blocks, first_stride) in enumerate(STAGES, start=1):
            stage = []
            for block in range(blocks):
                stage.append(Bottleneck(channels, width, first_stride if block == 0 else 1))
                channels = width * EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(
                module, nn.Conv2d
            ):  # He et al.'s own; PyTorch's default makes every answer the same
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes are the class's; the mean over height and width takes other sizes as well."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for number in range(1, len(STAGES) + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))
