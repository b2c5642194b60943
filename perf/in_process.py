"""How fast ONNX Runtime is alone: the limit that a server around it can approach.

    python -m perf.in_process model.onnx --sessions 2 --threads 1 --batch 4

Each session runs in a thread of its own and computes batches back to back for `--seconds`. Prints JSON.
"""

import argparse
import json
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

__all__ = ["throughput"]


def throughput(graph: Path, sessions: int, threads: int, batch: int, seconds: float) -> float:
    """Items per second of `sessions` sessions with `threads` intra-op threads each, at batch size `batch`.

    The graph needs one UINT8 input with a dynamic batch; its pixels are random, which costs the same.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    runners = [
        ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"]) for _ in range(sessions)
    ]
    (node,) = runners[0].get_inputs()
    shape = (batch, *node.shape[1:])
    feed = {node.name: np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)}
    for runner in runners:
        runner.run(None, feed)
    counts = [0] * sessions
    start = time.perf_counter()

    def loop(index: int) -> None:
        while time.perf_counter() - start < seconds:
            runners[index].run(None, feed)
            counts[index] += batch

    workers = [threading.Thread(target=loop, args=(index,)) for index in range(sessions)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.in_process", description=__doc__)
    parser.add_argument("graph", type=Path)
    for name, default in (("sessions", 1), ("threads", 1), ("batch", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    print(json.dumps({"items_per_second": throughput(**vars(arguments))}))


if __name__ == "__main__":
    main()
