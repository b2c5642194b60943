"""Models that cost next to nothing, as the machine is shared by clients, gateway and servers; y is x + 1."""

from pathlib import Path

import numpy as np
from onnx import helper

from tests.graphs import FLOAT, graph, publish
from tests.launcher import write_model

SHAPE = (1,)
PLUS_ONE = graph(
    [helper.make_node("Add", ["x", "one"], ["y"])],
    [("x", FLOAT, [1])],
    [("y", FLOAT, [1])],
    [("one", np.array([1], np.float32))],
)
CONFIG = """
backend: "{backend}"
input {{ name: "x" data_type: TYPE_FP32 dims: 1 }}
output {{ name: "y" data_type: TYPE_FP32 dims: 1 }}
instance_group {{ kind: KIND_CPU count: {count} }}
dynamic_batching {{
  default_queue_policy {{ max_queue_size: 256 default_timeout_microseconds: 5000000 }}
}}
"""
ONE_THREAD = 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }\n'
PYTHON = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        time.sleep({seconds} * len(requests))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x + 1)]) for x in tensors]
"""


def write_models(repository: Path) -> Path:
    """plus_one: ONNX. python_plus_one: a Python model of two processes."""
    write_onnx(repository, "plus_one")
    write_waiting(repository, "python_plus_one", count=2, seconds=0)
    return repository


def write_onnx(repository: Path, name: str, model: bytes = PLUS_ONE) -> None:
    publish(repository, name, model, CONFIG.format(backend="onnxruntime", count=1) + ONE_THREAD)


def write_waiting(repository: Path, name: str, count: int, seconds: float) -> None:
    """One that waits so long for each request, instead of computing, with so many processes."""
    code, config = PYTHON.format(seconds=seconds), CONFIG.format(backend="python", count=count)
    write_model(repository, name, code, config)
