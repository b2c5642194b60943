"""Two small models that plans are made of."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from export import ModelSpec, State, Tensor


class Columns(nn.Module):
    """Line UINT8 [batch, 8, w] -> FP32 [batch, w, 4]; transposes UINT8, which TensorRT cannot."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(8, 4)

    def forward(self, line):
        return self.mix(line.transpose(1, 2).to(torch.float32) / 25)


class Sums(nn.Module):
    """What was sent so far, mixed: FP32 [batch, 3], the state alike."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3, 3)

    def forward(self, x, total):
        total = total + x
        return self.mix(total), total


def as_it_is(network):
    return network


columns = ModelSpec(
    name="columns",
    network=Columns,
    served=as_it_is,
    inputs=(Tensor("line", "uint8", (8, -1)),),
    outputs=(Tensor("scores", "float32", (-1, 4)),),
    max_batch_size=4,
    tolerance=1e-4,
)
sums = ModelSpec(
    name="sums",
    network=Sums,
    served=as_it_is,
    inputs=(Tensor("x", "float32", (3,)),),
    outputs=(Tensor("mixed", "float32", (3,)),),
    states=(State("total_in", "total_out", "float32", (3,)),),
    max_batch_size=4,
    tolerance=1e-4,
)
SPECS = {spec.name: spec for spec in (columns, sums)}
both = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def graph_of(repository: Path, spec: ModelSpec) -> onnx.ModelProto:
    return onnx.load(repository / spec.name / "1" / "model.onnx")
