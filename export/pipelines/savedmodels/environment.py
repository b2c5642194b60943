"""TensorFlow and its converter in an environment of their own, made at the first use and kept in the cache.

They are 2 GB, and need another NumPy and another protobuf than everything else here.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from export.common.errors import PackageError
from export.common.packages import cache_dir

__all__ = ["PINS", "folder", "is_there", "python"]

PINS = (
    "tensorflow==2.21.0",
    "keras==3.15.1",
    "tf2onnx==1.17.0",  # the ONNX project's own converter of TensorFlow graphs
    "onnx==1.23.2",
)
SPACE_BYTES = 3_500_000_000  # what is installed, and what pip unpacks meanwhile
COMPLETE = "complete"
TOLD_LINES = 6


def folder() -> Path:
    """Of these pins and this Python; it may not be there yet."""
    key = "\n".join([f"python {sys.version_info[0]}.{sys.version_info[1]}", *PINS])
    return cache_dir() / "environments" / f"tensorflow-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def is_there() -> bool:
    """Whether it was made, to its end."""
    return (folder() / COMPLETE).is_file()


def python(progress: Callable[[str], None] = lambda step: None) -> Path:
    """Its interpreter; the environment is made if it is not there. Two processes make it one after the other.

    Raises `PackageError` without network or room for it, with pip's own reason.
    """
    made = folder()
    if not is_there():
        with _alone(made):
            if not is_there():
                progress("fetching")
                _make(made)
    return made / "bin" / "python"


def _make(made: Path) -> None:
    free = shutil.disk_usage(made.parent).free
    if free < SPACE_BYTES:
        raise PackageError(
            f"TensorFlow needs {SPACE_BYTES / 1e9:.1f} GB in {made.parent}, and {free / 1e9:.1f} GB are "
            "free: make room, or set TRITON_VISION_CACHE to a folder on another disk"
        )
    print(
        f"making an environment with {', '.join(PINS)} in {made}: once, 2.1 GB, some minutes",
        file=sys.stderr,
        flush=True,
    )
    shutil.rmtree(made, ignore_errors=True)  # of an attempt that was interrupted
    _call([sys.executable, "-m", "venv", "--without-pip", str(made)])
    pip = [sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "install", "--no-input"]
    _call([*pip, "--disable-pip-version-check", "--prefer-binary", *PINS])
    (made / COMPLETE).touch()


def _call(command: list[str]) -> None:
    # a PYTHONPATH of ours would let its pip find our packages installed already
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    on_terminal = sys.stderr.isatty() and sys.stderr is sys.__stderr__  # then pip's own bar is the progress
    done = subprocess.run(
        command,
        stdout=sys.stderr if on_terminal else subprocess.PIPE,
        stderr=sys.stderr if on_terminal else subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env=variables,
    )
    if done.returncode:
        told = "\n".join((done.stdout or "").strip().splitlines()[-TOLD_LINES:])
        raise PackageError(
            f"the environment with TensorFlow could not be made; is there a network? The command was:\n"
            f"  {' '.join(command)}\n{told}\n"
            "Without a network, fetch the packages elsewhere with `pip download` and name their folder in "
            "PIP_FIND_LINKS"
        )


@contextlib.contextmanager
def _alone(made: Path) -> Iterator[None]:
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        lock = made.with_suffix(".lock").open("w")
    except OSError as error:
        raise PackageError(f"the cache cannot be written: {error}; set TRITON_VISION_CACHE") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
