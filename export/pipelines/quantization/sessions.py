"""ONNX Runtime on this CPU, as calibration and search use it."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.graphs.conversion import stack
from export.graphs.sessions import session_options
from export.specs.spec import Sample

__all__ = ["answers", "session"]

BATCH = 10


def session(model: onnx.ModelProto | bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A session of a model; `threads` of one operator, by default one per core that this process may use."""
    options = session_options()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    graph = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])


def answers(running: onnxruntime.InferenceSession, samples: Sequence[Sample]) -> NDArray[Any]:
    """The first output of every sample, [samples, ...]."""
    names = [value.name for value in running.get_inputs()]
    batches = [stack(list(samples[first : first + BATCH])) for first in range(0, len(samples), BATCH)]
    return np.concatenate([running.run(None, dict(zip(names, batch, strict=True)))[0] for batch in batches])
