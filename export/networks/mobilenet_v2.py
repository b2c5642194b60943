"""MobileNetV2 at width 1.0 (Sandler et al. 2018, table 2), with torchvision's module names."""

import torch
from torch import nn

__all__ = ["MobileNetV2"]

# expansion, channels out, repeats, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


def conv_bn_relu6(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """[batch, in, h, w] -> [batch, out, ceil(h / stride), ceil(w / stride)] for an odd kernel; no bias."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Widen (1x1), filter each channel (3x3), narrow (1x1); added to its input where shapes allow."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int):
        super().__init__()
        wide = channels_in * expansion
        self.residual = stride == 1 and channels_in == channels_out
        self.conv = nn.Sequential(
            *([conv_bn_relu6(channels_in, wide, 1)] if expansion > 1 else []),
            conv_bn_relu6(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, in, h, w] -> [batch, out, ceil(h / stride), ceil(w / stride)]."""
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """FP32 [batch, 3, 224, 224], ImageNet-normalised RGB -> logits FP32 [batch, 1000]."""

    def __init__(self, classes: int = 1000):
        super().__init__()
        layers: list[nn.Module] = [conv_bn_relu6(3, STEM_CHANNELS, 3, stride=2)]
        channels = STEM_CHANNELS
        for expansion, channels_out, repeats, first_stride in STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                layers.append(InvertedResidual(channels, channels_out, stride, expansion))
                channels = channels_out
        layers.append(conv_bn_relu6(channels, HEAD_CHANNELS, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(HEAD_CHANNELS, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes are the class's; the mean over height and width takes other sizes as well."""
        return self.classifier(self.features(x).mean((2, 3)))
