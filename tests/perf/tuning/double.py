"""A model that doubles, with a policy that asks to be tuned."""

import numpy as np
from onnx import helper

from tests.graphs import FLOAT, graph

DOUBLE = graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    [("x", FLOAT, ["n", 16])],
    [("y", FLOAT, ["n", 16])],
    [("w", 2 * np.eye(16, dtype=np.float32))],
)
CONFIG = """\
name: "double"
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 16 }
output { name: "y" data_type: TYPE_FP32 dims: 16 }
# waits far too long for company
dynamic_batching { max_queue_delay_microseconds: 20000 preferred_batch_size: 8 }
instance_group { count: 1 kind: KIND_CPU }
"""
