"""ResNet-18 and ResNet-50 (He et al. 2015, table 1), with torchvision's module names."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ResNet18", "ResNet50"]

# width, stride of the first block
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
STEM_CHANNELS = 64


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to their input or to a 1x1 projection of it."""

    EXPANSION = 1

    def __init__(self, channels_in: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = projection(channels_in, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, in, h, w] -> [batch, width, ceil(h / stride), ceil(w / stride)]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """Narrow (1x1), filter (3x3, with the stride), widen (1x1), added as in `BasicBlock`."""

    EXPANSION = 4  # channels out, relative to the inner width

    def __init__(self, channels_in: int, width: int, stride: int):
        super().__init__()
        channels_out = width * self.EXPANSION
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample = projection(channels_in, channels_out, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, in, h, w] -> [batch, 4 * width, ceil(h / stride), ceil(w / stride)]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def projection(channels_in: int, channels_out: int, stride: int) -> nn.Module | None:
    """What makes a block's input fit its output; None where it does."""
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
    )


class ResNet(nn.Module):
    """FP32 [batch, 3, 224, 224], ImageNet-normalised RGB -> logits FP32 [batch, classes].

    blocks: of each stage
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], blocks: tuple[int, ...], classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = STEM_CHANNELS
        for number, ((width, first_stride), count) in enumerate(zip(STAGES, blocks, strict=True), start=1):
            stage = []
            for place in range(count):
                stage.append(block(channels, width, first_stride if place == 0 else 1))
                channels = width * block.EXPANSION
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


class ResNet18(ResNet):
    """Names of parameters are torchvision's `resnet18`."""

    def __init__(self, classes: int = 1000):
        super().__init__(BasicBlock, (2, 2, 2, 2), classes)


class ResNet50(ResNet):
    """Names of parameters are torchvision's `resnet50`."""

    def __init__(self, classes: int = 1000):
        super().__init__(Bottleneck, (3, 4, 6, 3), classes)
