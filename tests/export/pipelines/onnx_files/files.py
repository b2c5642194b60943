"""ONNX files that tests make, and the door through which they are published."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.pipelines.onnx_files.door import FileReport, FileRequest, export_file
from export.pipelines.serving.trial import TrialServer
from export.repository.configs.contract import parse_config

FLOAT, INT64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
ML = "ai.onnx.ml"
RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(8, 4)).astype(np.float32)


def model(nodes, inputs, outputs, weights=(), opset: int = 18, ir: int = 9, **more) -> onnx.ModelProto:
    """Inputs and outputs as (name, element type, dims) or ready-made; weights as (name, array)."""

    def value(one):
        return one if isinstance(one, onnx.ValueInfoProto) else helper.make_tensor_value_info(*one)

    graph = helper.make_graph(
        nodes,
        "graph",
        [value(one) for one in inputs],
        [value(one) for one in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    opsets = [helper.make_opsetid("", opset), *more.pop("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, **more)


def linear(after=(), inputs=("n", 8), outputs=("n", 4), names=("x", "y"), weights=(), **more):
    """x @ W, then these nodes on `a`."""
    x, y = names
    nodes = [helper.make_node("MatMul", [x, "w"], ["a" if after else y]), *after]
    return model(
        nodes,
        [(x, FLOAT, list(inputs))],
        [(y, FLOAT, None if outputs is None else list(outputs))],
        [("w", W), *weights],
        **more,
    )


def node(kind: str, inputs: str, output: str = "y", **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


class Door:
    """Publishes models into a repository of the test."""

    def __init__(self, folder: Path, trial: TrialServer | None) -> None:
        self.folder, self.repository, self.trial = folder, folder / "models", trial

    def file(self, made: onnx.ModelProto | bytes, name: str = "m") -> Path:
        path = self.folder / f"{name}.onnx"
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
        return path

    def publish(self, made: onnx.ModelProto | bytes | Path, name: str = "m", **request) -> FileReport:
        path = made if isinstance(made, Path) else self.file(made, name)
        return export_file(FileRequest(path, name, **request), self.repository, self.trial)

    def config(self, name: str = "m") -> ModelConfig:
        path = self.repository / name / "config.pbtxt"
        return parse_config(path.read_text(), path)

    @property
    def empty(self) -> bool:
        """Is nothing published, and nothing left over?"""
        return not self.repository.exists() or not any(self.repository.iterdir())


def tensors(field) -> list[tuple]:
    return [(one.name, one.data_type, list(one.dims)) for one in field]
