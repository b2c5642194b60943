"""The limit of the job on this machine: ONNX Runtime in-process, the same code, no server at all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from perf.harness.errors import PerfError
from perf.peers.jobs import ComparedJob, as_files
from perf.peers.servers import Layout

__all__ = ["LIMITS", "limit", "right_answers"]

WORK = Path(__file__).parent / "shared" / "work.py"

# What one client that waits for each answer could get, and what many could
LIMITS = {
    "one loop, 1 thread": Layout(1, 1),
    "one loop, 2 threads": Layout(1, 2),
    "two processes": Layout(2, 1),
}


def right_answers(job: ComparedJob) -> list[Any]:
    """What the graph answers in-process, for each input of the job. Raises `PerfError`."""
    with as_files(job.bodies) as files:
        process = start(job, 1)
        out, _ = process.communicate(f"{json.dumps({'files': files, 'seconds': 0})}\n")
    if process.returncode:
        raise PerfError(f"the job {job.name} failed in-process; its error is above")
    answers: list[Any] = json.loads(out)
    return answers


def limit(job: ComparedJob, layout: Layout, seconds: float) -> dict[str, float]:
    """Loops side by side in fresh processes: rate, answers/s of all; p50_ms and p99_ms of the slowest.

    Raises `PerfError` if one fails.
    """
    with as_files(job.bodies) as files:
        processes = [start(job, layout.threads) for _ in range(layout.workers)]
        try:
            for process in processes:
                _tell(process, json.dumps({"files": files, "seconds": seconds}))
            if any(process.stdout and process.stdout.readline() != "ready\n" for process in processes):
                raise PerfError(f"the job {job.name} failed in-process; its error is above")
            for process in processes:  # all wait for this line: the loops run side by side
                _tell(process, "")
            found = [json.loads(process.communicate()[0]) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return {
        "rate": sum(one["rate"] for one in found),
        "p50_ms": max(one["p50_ms"] for one in found),
        "p99_ms": max(one["p99_ms"] for one in found),
    }


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None  # a pipe
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def start(job: ComparedJob, threads: int) -> subprocess.Popen[str]:
    """shared/work.py with the job in its environment, waiting for its line of JSON on standard input."""
    return subprocess.Popen(
        [sys.executable, str(WORK)],
        env={**os.environ, **job.variables(threads)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
