"""BentoML: worker processes behind one port, each with adaptive batching.

A batchable endpoint takes a list in JSON, so files travel as base64 and sequences as numbers. The allowed
latency is large: beyond it BentoML refuses requests with 503, and those would be no measurement.
"""

import base64
import os
import sys

import bentoml
import numpy as np
from work import open_work

MAX_BATCH_SIZE = 32
MAX_LATENCY_MS = 30_000
BATCH = {"batchable": True, "max_batch_size": MAX_BATCH_SIZE, "max_latency_ms": MAX_LATENCY_MS}


@bentoml.service(workers=int(os.environ.get("PEER_WORKERS", "1")), traffic={"timeout": 60})
class BentoWork:
    """One worker, which opens the job once."""

    def __init__(self):
        self.work = open_work()

    @bentoml.api(route="/infer", **BATCH)
    def infer(self, inputs: list[str]) -> list[list]:
        """A batch of files, as base64, to an answer for each."""
        return self.work.infer([self.work.prepare(base64.b64decode(text)) for text in inputs])

    @bentoml.api(route="/sequences", **BATCH)
    def sequences(self, inputs: np.ndarray) -> list[list[float]]:
        """FP32 [batch, 32, 32] to the probabilities of ten classes for each."""
        return self.work.infer(list(inputs.astype(np.float32)))


if __name__ == "__main__":
    command = [sys.executable, "-m", "bentoml", "serve", "app:BentoWork", "--host", "127.0.0.1"]
    os.execv(sys.executable, [*command, "--port", os.environ["PEER_PORT"]])
