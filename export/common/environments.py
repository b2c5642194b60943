"""Packages that cannot be beside ours, in environments of their own: made at the first use."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from export.common.errors import PackageError
from export.common.packages import cache_dir

__all__ = ["Environment"]

COMPLETE = "complete"
TOLD_LINES = 6


@dataclass(frozen=True)
class Environment:
    """What is installed there with pip.

    name: of its folder in the cache; title: what people call it; space_bytes: what is installed, and what pip
    unpacks meanwhile; cost: of making it, as people are told.
    """

    name: str
    title: str
    pins: tuple[str, ...]
    space_bytes: int
    cost: str

    @property
    def folder(self) -> Path:
        """Of these pins and this Python; it may not be there yet."""
        key = "\n".join([f"python {sys.version_info[0]}.{sys.version_info[1]}", *self.pins])
        return cache_dir() / "environments" / f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    @property
    def is_there(self) -> bool:
        """Whether it was made, to its end."""
        return (self.folder / COMPLETE).is_file()

    def python(self, progress: Callable[[str], None] = lambda step: None) -> Path:
        """Its interpreter; the environment is made if it is missing. A second process waits.

        Raises `PackageError` without network or room for it, with pip's own reason.
        """
        if not self.is_there:
            with _alone(self.folder):
                if not self.is_there:
                    progress("fetching")
                    self._make(self.folder)
        return self.folder / "bin" / "python"

    def _make(self, made: Path) -> None:
        free = shutil.disk_usage(made.parent).free
        if free < self.space_bytes:
            raise PackageError(
                f"{self.title} needs {self.space_bytes / 1e9:.1f} GB in {made.parent}, and {free / 1e9:.1f} "
                "GB are free: make room, or set TRITON_VISION_CACHE to a folder on another disk"
            )
        print(
            f"making an environment with {', '.join(self.pins)} in {made}: once, {self.cost}",
            file=sys.stderr,
            flush=True,
        )
        shutil.rmtree(made, ignore_errors=True)  # of an attempt that was interrupted
        _call([sys.executable, "-m", "venv", "--without-pip", str(made)], self.title)
        pip = [sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "install", "--no-input"]
        _call([*pip, "--disable-pip-version-check", "--prefer-binary", *self.pins], self.title)
        (made / COMPLETE).touch()


def _call(command: list[str], title: str) -> None:
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
            f"the environment with {title} could not be made; is there a network? The command was:\n"
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
