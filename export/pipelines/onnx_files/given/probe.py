"""Load an ONNX file and print, as JSON, what ONNX Runtime says against it; "" if nothing.

Run in a process of its own, with the memory of the machine as a limit, by `reading` beside it.
"""

import json
import os
import resource
import sys

HEADROOM_BYTES = 4 * 2**30  # address space that threads and libraries take, hardly used


def _limit_memory() -> None:
    with open("/proc/meminfo") as lines:
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    soft = available + HEADROOM_BYTES
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (soft if hard < 0 else min(soft, hard), hard))


def main(path: str) -> str:
    """What ONNX Runtime says against the file at `path`, on the CPU, in one line; "" if it loads it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no public root
        return " ".join(str(error).split()) or type(error).__name__
    return ""


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.path.exists("/proc/meminfo"):
        _limit_memory()
    print(json.dumps(main(sys.argv[1])), flush=True)
