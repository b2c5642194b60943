"""Does TensorRT-RTX take a graph? Its parser and its builder say; neither needs a GPU.

A program of its own, run by the interpreter of `rtx.RTX`'s environment: `program.py GRAPH ANSWER` with the
smallest, optimal and largest shapes as JSON on standard input. It writes JSON into the file ANSWER: the
version, the stage that was reached ("parse", "build" or "done"), the errors, and the plan's first bytes.
"""

import json
import sys
from pathlib import Path
from typing import Any

import tensorrt_rtx as trt

HEADER_BYTES = 32


class _Logger(trt.ILogger):  # type: ignore[misc]
    """Keeps errors; the builder gives no other reason."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity <= trt.ILogger.Severity.ERROR:
            self.errors.append(message)


def _told(graph: bytes, shapes: list[dict[str, list[int]]]) -> dict[str, Any]:
    logger = _Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        errors = [f"{error.node_operator()} ({error.node_name()}): {error.desc()}" for error in found]
        return {"stage": "parse", "errors": errors or logger.errors}
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for name, smallest in shapes[0].items():
        profile.set_shape(name, smallest, shapes[1][name], shapes[2][name])
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)  # there is no GPU to ask
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return {"stage": "build", "errors": logger.errors}
    return {"stage": "done", "errors": [], "header": bytes(plan)[:HEADER_BYTES].hex()}


if __name__ == "__main__":
    answer = _told(Path(sys.argv[1]).read_bytes(), json.load(sys.stdin))
    Path(sys.argv[2]).write_text(json.dumps({"version": trt.__version__, **answer}))
