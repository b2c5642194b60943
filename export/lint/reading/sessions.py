"""What ONNX Runtime says of a graph's outputs, asked in a process with a limit on time and memory."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto

from export.lint.reading.skeleton import SkeletonError, external_data, skeleton, with_sizes

__all__ = ["BATCH", "SessionFacts", "Sessions"]

WORKER = Path(__file__).with_name("session_worker.py")
START_TIMEOUT_S = 60.0
GRAPH_TIMEOUT_S = 20.0
BATCH = 7  # of the second look: no size that a graph is likely to have fixed
BASIC_LEVEL = -1
MAX_BYTES = 1 << 31  # of what protobuf serialises


@dataclass(frozen=True)
class SessionFacts:
    """outputs: dims by name, -1 where open, [] for a scalar and where not even the number of dims is known.

    with_batch: the same for a batch of `BATCH`.  refusal: what ONNX Runtime has against the graph itself.
    unknown: why nothing is known, where that is not the graph's fault.
    """

    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    with_batch: dict[str, tuple[int, ...]] = field(default_factory=dict)
    refusal: str = ""
    unknown: str = ""


class Sessions:
    """A worker that is started when the first graph comes, and again after one that it did not survive."""

    def __init__(self) -> None:
        self._worker: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._without = ""  # why there can be no worker

    def __enter__(self) -> "Sessions":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def ask(self, model: ModelProto, path: Path, level: int, batched: set[str]) -> SessionFacts:
        """path: of the file that the model was read from; batched: inputs whose first dim is the batch."""
        try:
            bare = skeleton(model, path.parent)
            data = bare.SerializeToString()
        except (SkeletonError, ValueError, TypeError, RecursionError) as error:
            return SessionFacts(unknown=str(error))
        answer = self._job({"level": level}, data)
        if "error" in answer and not answer.get("lost") and external_data(model, path.parent):
            # without its weights it may be at fault where it is not with them
            whole = self._job({"level": level, "path": str(path)})
            if "error" in whole and not whole.get("lost"):
                return SessionFacts(refusal=whole["error"])
            answer = whole
        if "error" in answer:
            return SessionFacts(unknown=answer["error"])
        more: dict[str, tuple[int, ...]] = {}
        if batched:
            more = self._sized(bare, dict.fromkeys(batched, (BATCH,)))
        return SessionFacts(_tuples(answer["outputs"]), more)

    def sized(
        self, model: ModelProto, path: Path, sizes: Mapping[str, Sequence[int]]
    ) -> dict[str, tuple[int, ...]]:
        """Dims of outputs, as in `SessionFacts`, where open dims of inputs have these sizes; {} if unknown.

        sizes: by input, of its dims from the first on.
        """
        try:
            return self._sized(skeleton(model, path.parent), sizes)
        except (SkeletonError, ValueError, TypeError, RecursionError):
            return {}

    def _sized(self, bare: ModelProto, sizes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        answer = self._job({"level": BASIC_LEVEL}, with_sizes(bare, sizes).SerializeToString())
        return _tuples(answer.get("outputs", {}))

    def _job(self, job: dict[str, Any], data: bytes | None = None) -> dict[str, Any]:
        """The worker's answer; with "lost" where it gave none."""
        if data is not None and len(data) >= MAX_BYTES:
            return {"error": "the graph is too large", "lost": True}
        if not self._start():
            return {"error": self._without, "lost": True}
        header = {**job, "bytes": len(data)} if data is not None else job
        try:
            if self._worker and self._worker.stdin:
                self._worker.stdin.write(json.dumps(header).encode() + b"\n" + (data or b""))
                self._worker.stdin.flush()
        except OSError:
            pass  # it is gone, and its answer with it
        return self._answer(GRAPH_TIMEOUT_S) or {"error": "ONNX Runtime did not survive it", "lost": True}

    def _start(self) -> bool:
        if self._worker is None and not self._without:
            self._answers = queue.SimpleQueue()
            self._worker = subprocess.Popen(
                [sys.executable, "-I", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            threading.Thread(target=_read, args=(self._worker.stdout, self._answers), daemon=True).start()
            hello = self._answer(START_TIMEOUT_S) or {"error": "the worker did not start"}
            if "error" in hello:
                self._without = hello["error"]
                self._stop()
        return self._worker is not None

    def _answer(self, timeout_s: float) -> dict[str, Any] | None:
        """None where there was none in time: the worker is then ended."""
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            line = ""
        try:
            return json.loads(line)
        except ValueError:
            self._stop()
            return None

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None


def _read(stream: Any, answers: "queue.SimpleQueue[str]") -> None:
    for line in stream:
        answers.put(line.decode(errors="replace"))
    answers.put("")


def _tuples(dims: dict[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(sizes) for name, sizes in dims.items()}
