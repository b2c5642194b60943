"""A virtual environment for each peer, made on demand in the cache: their dependencies contradict each other.

Beside what a peer asks for, each gets the packages that do the work, in the versions that serve here: a
comparison of servers must not be one of ONNX Runtimes.
"""

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from export.common.packages import alone, cache_dir
from perf.harness.errors import PerfError

__all__ = ["Environment", "NotInstallable", "environment"]

# What the job itself is made of; a peer gets the versions that are installed here.
SHARED = ("onnxruntime", "numpy", "pillow", "cykooz-resizer")
TOLD_LINES = 6  # of pip's output, in an error


class NotInstallable(PerfError):
    """A peer's environment could not be made; the message holds pip's own reason."""


@dataclass(frozen=True)
class Environment:
    """A peer's own Python, and the versions that a result must name."""

    folder: Path

    @property
    def python(self) -> Path:
        """The interpreter that finds the peer's packages."""
        return self.folder / "bin" / "python"

    def versions(self) -> dict[str, str]:
        """All installed packages, name to version."""
        code = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True)
        return dict(sorted(word.split("==", 1) for word in done.stdout.split()))


def environment(requirements: Path) -> Environment:
    """The environment of a requirements file, made if it is not there yet. Raises `NotInstallable`."""
    wanted = requirements.read_text() + "".join(f"{line}\n" for line in shared_requirements())
    digest = hashlib.sha256(f"{sys.version}\n{wanted}".encode()).hexdigest()[:12]
    folder = cache_dir() / "peers" / f"{requirements.parent.name}-{digest}"
    with alone(folder):  # whoever else wants it waits until it is made
        if not (folder / "complete").is_file():
            print(f"making {folder} for {requirements.parent.name} (once)", file=sys.stderr, flush=True)
            _make(folder, wanted)
    return Environment(folder)


def _make(folder: Path, wanted: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # an interrupted attempt
    listed = folder.with_suffix(".txt")
    listed.write_text(wanted)
    call([sys.executable, "-m", "venv", str(folder)])
    install = ["-m", "pip", "install", "--disable-pip-version-check", "--prefer-binary", "-r", str(listed)]
    call([str(folder / "bin" / "python"), *install])
    (folder / "complete").touch()


def shared_requirements() -> list[str]:
    """`SHARED`, each pinned to the version that is installed here; what is not installed is left out."""
    pinned = []
    for package in SHARED:
        try:
            pinned.append(f"{package}=={importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return pinned


def call(command: list[str]) -> None:
    """Run a command to its end. Raises `NotInstallable` with the last lines that it printed if it fails."""
    # A PYTHONPATH of ours would let a peer's pip find our packages installed already
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        told = "\n".join((done.stdout + done.stderr).strip().splitlines()[-TOLD_LINES:])
        raise NotInstallable(f"`{' '.join(command)}` failed:\n{told}")
