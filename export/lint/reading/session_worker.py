"""A process that makes ONNX Runtime sessions of graphs from anywhere, and says what dims their outputs have.

It knows nothing of Triton or of this project, runs by its path, and may be killed at any time: a graph that
hangs, crashes or eats memory does so here (sessions.py). Nothing is computed but what ONNX
Runtime folds while it loads, no library of custom operators is loaded, and a graph that comes as bytes has
no files.

A job is a line of JSON on standard input, {"level": int, "bytes": int} and then that many bytes of a graph,
or {"level": int, "path": str}. The answer is a line of JSON: {"outputs": {name: [size, -1 where open]}}, or
{"error": str}.
"""

import contextlib
import json
import os
import sys
from typing import Any

ADDRESS_SPACE_BYTES = 6 << 30
LEVELS = {  # optimization.graph.level of a config, as NVIDIA's backend reads it; any other value: all
    -1: "ORT_ENABLE_BASIC",
    1: "ORT_ENABLE_EXTENDED",
    2: "ORT_DISABLE_ALL",
}


def main() -> None:
    """Answer jobs until standard input ends. The first line of output is {"version": str}, of ONNX Runtime.

    Without ONNX Runtime it is {"error": str, "fatal": true}, and nothing follows. Memory is limited to
    `ADDRESS_SPACE_BYTES` where the system has such limits; neither core dumps nor files are written.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):  # where there are such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print
    try:
        import onnxruntime
    except Exception as error:
        _say(answers, {"error": f"onnxruntime cannot be imported: {error}", "fatal": True})
        return
    _say(answers, {"version": onnxruntime.__version__})
    while line := sys.stdin.buffer.readline():
        job = json.loads(line)
        graph = sys.stdin.buffer.read(job["bytes"]) if "bytes" in job else job["path"]
        try:
            _say(answers, {"outputs": _outputs(onnxruntime, graph, job["level"])})
        except Exception as error:  # whatever ONNX Runtime has against the graph
            _say(answers, {"error": str(error) or type(error).__name__})


def _outputs(onnxruntime: Any, graph: bytes | str, level: int) -> dict[str, list[int]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, LEVELS.get(level, "ORT_ENABLE_ALL")
    )
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return {
        output.name: [size if isinstance(size, int) else -1 for size in output.shape]
        for output in session.get_outputs()
    }


def _say(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
