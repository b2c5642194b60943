"""How fast JPEG bytes become class probabilities without a server: the limit of `recognize_objects`.

    python -m perf.harness.jpeg_in_process --workers 2 --batch 1

Each worker, a process or with `--threads` a thread, decodes photographs as image_decoder does, and runs
the served ONNX file on them with one thread, back to back for `--seconds`. Prints JSON.
"""

import argparse
import json
import multiprocessing
import threading
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from export.model_code.decoding import decode
from export.sources.photographs import photographs
from perf.harness.errors import PerfError
from perf.harness.inputs import REPOSITORY
from perf.harness.serving import newest_graph

__all__ = ["jpeg_files", "throughput"]

CNN = "efficientnet_lite0"
START_TIMEOUT_S = 120.0


def jpeg_files() -> list[bytes]:
    """The photographs that are JPEGs, as they are."""
    return [photo.path.read_bytes() for photo in photographs() if photo.path.suffix == ".jpg"]


def throughput(graph: Path, workers: int, batch: int, seconds: float, threads: bool = False) -> float:
    """Images per second of `workers` processes (or threads), each taking `batch` images at a time."""
    files = jpeg_files()
    barrier: Any
    kind: Any
    queue: Any
    if threads:
        barrier, kind, queue = threading.Barrier(workers), threading.Thread, None
        rates: list[float] = []
    else:
        context = multiprocessing.get_context("spawn")  # a forked ONNX Runtime would share its locks
        barrier, kind, queue = context.Barrier(workers), context.Process, context.Queue()
    started = [
        kind(
            target=_work,
            args=(
                graph,
                files,
                index,
                batch,
                seconds,
                barrier,
                queue.put if queue else rates.append,
            ),
        )
        for index in range(workers)
    ]
    for worker in started:
        worker.start()
    if queue:
        rates = [queue.get(timeout=START_TIMEOUT_S + 2 * seconds) for _ in started]
    for worker in started:
        worker.join()
    return sum(rates)


def _work(
    graph: Path,
    files: list[bytes],
    index: int,
    batch: int,
    seconds: float,
    barrier: Any,
    report: Callable[[float], None],
) -> None:
    """Report the images per second of one worker, which starts with the others."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    endless = cycle(files[index * len(files) // 2 :] + files[: index * len(files) // 2])
    pixels = np.empty((batch, *decode(files[0]).shape), np.uint8)
    session.run(None, {node.name: pixels})
    barrier.wait(START_TIMEOUT_S)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for position in range(batch):
            pixels[position] = decode(next(endless))
        session.run(None, {node.name: pixels})
        count += batch
    report(count / (time.perf_counter() - start))


def main() -> None:
    """Print JSON: images_per_second. Exits with a message where the model is not exported."""
    parser = argparse.ArgumentParser(
        prog="python -m perf.harness.jpeg_in_process",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--graph", type=Path, metavar="FILE", help=f"default: the newest of {CNN}")
    parser.add_argument("--workers", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--threads", action="store_true", help="threads of one process, not processes")
    parser.add_argument("--batch", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3, help="default: %(default)s")
    options = parser.parse_args()
    try:
        options.graph = options.graph or newest_graph(REPOSITORY / CNN)
    except PerfError as error:
        parser.exit(1, f"error: {error}\n")
    print(json.dumps({"images_per_second": throughput(**vars(options))}))


if __name__ == "__main__":
    main()
