"""How fast ONNX Runtime is alone: the limit that a server around it can approach.

    python -m perf.harness.in_process model.onnx --sessions 2 --threads 1 --batch 4
    python -m perf.harness.in_process model.onnx --input-data inputs.json

Each session runs in a thread of its own and computes batches back to back for `--seconds`. With inputs (those
of perf/harness/inputs.py) one session answers one after the other, and what each took is told; with
`--files` the inputs are image files, decoded first as image_decoder does it. Prints JSON.
"""

import argparse
import base64
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.model_code.decoding import decode as decode_photograph
from perf.harness.errors import PerfError

__all__ = ["latency", "measure_alone", "throughput"]

WARM_UP_RUNS = 3


def throughput(graph: Path, sessions: int, threads: int, batch: int, seconds: float) -> float:
    """Items per second of `sessions` sessions with `threads` intra-op threads each, at batch size `batch`.

    The values are random, which costs the same. Raises `PerfError` for a graph whose batch is fixed, or that
    has another open dim, or strings.
    """
    runners = [open_session(graph, threads) for _ in range(sessions)]
    feed = {node.name: random_batch(node, batch) for node in runners[0].get_inputs()}
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


def random_batch(node: ort.NodeArg, batch: int) -> NDArray[Any]:
    """[batch, ...] for an input of a graph, of its dtype; the same values every time.

    Raises `PerfError` where the batch is fixed, another dim is open, or the input is text.
    """
    first, *dims = node.shape or [1]
    if isinstance(first, int) or not all(isinstance(dim, int) for dim in dims) or "string" in node.type:
        raise PerfError(
            f"input {node.name!r} is {node.type} {node.shape}; only numbers of one size behind an open batch "
            "can be measured so"
        )
    dtype, random = numpy_type(node.type), np.random.default_rng(0)
    if dtype.kind == "f":
        return random.normal(size=(batch, *dims)).astype(dtype)
    return random.integers(0, 256 if dtype == np.uint8 else 2, (batch, *dims)).astype(dtype)


def latency(
    graph: Path | None, data: Path, threads: int, batch: int, seconds: float, files: bool = False
) -> dict[str, float]:
    """What one session takes for one batch after the other: p50_ms, p99_ms, and means of its parts.

    graph: None decodes only. data: perf_analyzer's input file, of inputs of equal shape if `batch` > 1.
    decode_ms and infer_ms are of a batch, and 0 for what is not done.
    """
    items = json.loads(data.read_text())["data"]
    decode = decode_photograph if files else None
    session = open_session(graph, threads) if graph else None
    feeds = cycle(batches(items, batch, session, decode is not None))
    decoding, inferring = [], []

    def once() -> None:
        feed = next(feeds)
        start = time.perf_counter()
        if decode:
            images = np.stack([decode(content) for content in feed])
        middle = time.perf_counter()
        if session:
            session.run(None, {session.get_inputs()[0].name: images} if decode else feed)
        decoding.append(middle - start)
        inferring.append(time.perf_counter() - middle)

    repeat(once, seconds, (decoding, inferring))
    both = sorted(1000 * (a + b) for a, b in zip(decoding, inferring, strict=True))
    return {
        "p50_ms": statistics.median(both),
        "p99_ms": both[int(len(both) * 0.99)],
        "decode_ms": 1000 * statistics.mean(decoding),
        "infer_ms": 1000 * statistics.mean(inferring),
    }


def repeat(once: Callable[[], None], seconds: float, records: tuple[list[Any], ...]) -> None:
    """Call for so long, and forget what the first calls took."""
    for _ in range(WARM_UP_RUNS):
        once()
    for record in records:
        record.clear()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        once()


def batches(
    items: list[dict[str, Any]], batch: int, session: ort.InferenceSession | None, files: bool
) -> list[Any]:
    """Feeds of a session, or lists of image files, out of the steps of perf_analyzer's file."""
    groups = [[items[(n + k) % len(items)] for k in range(batch)] for n in range(0, len(items), batch)]
    if session is None or files:  # the length before the content of a BYTES element is left out
        return [[raw(next(iter(item.values())))[4:] for item in group] for group in groups]
    types = {node.name: numpy_type(node.type) for node in session.get_inputs()}
    return [
        {
            name: np.stack([np.frombuffer(raw(i[name]), dtype).reshape(i[name]["shape"]) for i in group])
            for name, dtype in types.items()
        }
        for group in groups
    ]


def raw(entry: dict[str, Any]) -> bytes:
    """The bytes of one tensor of perf_analyzer's file."""
    return base64.b64decode(entry["content"]["b64"])


def numpy_type(onnx_type: str) -> np.dtype[Any]:
    """Of ONNX Runtime's "tensor(float)": float32. Raises `TypeError` for strings."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))


def open_session(graph: Path, threads: int) -> ort.InferenceSession:
    """On the CPU; threads: of one operator, 0 is one per core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def measure_alone(graph: Path | None, **options: object) -> dict[str, float]:
    """`throughput` or, given input_data, `latency`, in a fresh process so that nothing of ours shares it.

    Raises `PerfError` with what that process said last.
    """
    command = [sys.executable, "-m", "perf.harness.in_process", *([str(graph)] if graph else [])]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        command += [option] if value is True else [] if value in (None, False) else [f"{option}={value}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        told = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise PerfError(f"{graph or 'the decoder'} cannot be measured in-process: {told}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Print JSON: items_per_second, or with --input-data what `latency` returns."""
    parser = argparse.ArgumentParser(
        prog="python -m perf.harness.in_process",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("graph", type=Path, nargs="?")
    for name, default in (("sessions", 1), ("threads", 1), ("batch", 1)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3, help="default: %(default)s")
    parser.add_argument("--input-data", type=Path, metavar="FILE", help="tell latencies, with these inputs")
    parser.add_argument("--files", action="store_true", help="the inputs are image files: decode them first")
    given = parser.parse_args()
    if given.input_data:
        answer = latency(
            given.graph, given.input_data, given.threads, given.batch, given.seconds, given.files
        )
    elif given.graph:
        rate = throughput(given.graph, given.sessions, given.threads, given.batch, given.seconds)
        answer = {"items_per_second": rate}
    else:
        parser.error("name a graph, or --input-data and --files")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
