"""ONNX Runtime on this CPU, as calibration and search use it."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.graphs.conversion import stack
from export.graphs.sessions import session_options
from export.sources.specs.spec import Sample

__all__ = ["Judged", "answers", "session"]

BATCH = 10

Judged = Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]


def session(model: onnx.ModelProto | bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A session of a model; `threads` of one operator, by default one per core that this process may use."""
    options = session_options()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    graph = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])


def answers(
    running: onnxruntime.InferenceSession, samples: Sequence[Sample], judged: Judged | None = None
) -> NDArray[Any]:
    """What `judged` makes of every sample's outputs, or the first of them, [samples, ...]."""
    names = [value.name for value in running.get_inputs()]
    outputs = [value.name for value in running.get_outputs()]
    found = []
    for first in range(0, len(samples), BATCH):
        batch = stack(list(samples[first : first + BATCH]))
        answer = running.run(outputs, dict(zip(names, batch, strict=True)))
        found.append(judged(dict(zip(outputs, answer, strict=True))) if judged else answer[0])
    return np.concatenate(found)
