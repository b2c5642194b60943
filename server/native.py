"""Build the native half of the ONNX Runtime backend, which serves plain models inside tritonserver.

It takes half a second, so it is built anew for each server, by the system's C compiler or by the one in the
Python package ziglang. Without either the Python half serves every model, slower (docs/decisions/0014).
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["HOW", "LIBRARY", "SWITCH", "build", "compiler"]

LIBRARY = "libtriton_onnxruntime.so"  # the name by which tritonserver finds it
SWITCH = "TRITON_VISION_NATIVE"  # 0: do without
FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden")
SYSTEM_LIBRARIES = ("-ldl", "-lpthread")  # in libc itself from glibc 2.34 on
OLDEST_GLIBC = "x86_64-linux-gnu.2.28"
HOW = "install a C compiler (`apt-get install gcc libc6-dev`), or `pip install ziglang`"
BUILD_TIMEOUT_S = 120  # ziglang prepares its C library once, some seconds


def compiler() -> list[str] | None:
    """The command that compiles C here; None if there is none."""
    if found := shutil.which("cc"):
        return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", OLDEST_GLIBC]
    return None


def build(sources: Path, library: Path) -> str:
    """Compile the C files of a folder. What to tell the user if that is not possible, else ""."""
    if os.environ.get(SWITCH) == "0":
        return ""
    command = compiler()
    if not command:
        return "there is no C compiler, so ONNX models run in Python processes, slower"
    command += [*FLAGS, "-o", str(library), *map(str, sorted(sources.glob("*.c"))), *SYSTEM_LIBRARIES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT_S)
        told, failed = done.stderr.strip(), done.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        told, failed = str(error), True
    if not failed:
        return ""
    library.unlink(missing_ok=True)
    return (
        f"{command[0]} could not compile {sources}, so ONNX models run in Python processes, slower; it says: "
        f"{told[-500:]}"
    )
