"""A model for the tests that need any one."""

import numpy as np
from onnx import helper

from tests.graphs import FLOAT, graph


def times(factor):
    return graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [("x", FLOAT, ["n", 1])],
        [("y", FLOAT, ["n", 1])],
        [("factor", np.array(factor, np.float32))],
    )
