"""Names of what a run has outside itself, shared memory and a folder, and what runs left of which every
process was killed.

Triton's Python backend makes segments below /dev/shm, and begins their names with what it is told to. The
guard removes them, and the folder; only where it, too, is killed while the launcher is, nobody does.
"""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import StartError

__all__ = ["new_run_folder", "prefix_of", "processes_of", "remove_leftovers", "unwritable"]

FOLDER = Path("/dev/shm")
ENDING = "run"  # of the folder's name, after what the names of the segments begin with


def new_prefix() -> str:
    """Of one run of tritonserver: the launcher's process, where its number means that, and a random part."""
    return f"triton-vision-{os.getpid()}-{_namespace()}-{secrets.token_hex(6)}-"


def new_run_folder() -> Path:
    """A folder for the files of one run, the caller's to remove until a `TritonRun` has started with it.

    Raises `StartError`.
    """
    folder = Path(tempfile.gettempdir()) / f"{new_prefix()}{ENDING}"
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise unwritable(error) from error
    return folder


def prefix_of(run_folder: Path) -> str:
    """What the names of that run's segments begin with."""
    return run_folder.name.removesuffix(ENDING)


def unwritable(error: OSError) -> StartError:
    """What to raise where a run's files cannot be written."""
    return StartError(
        f"the files of this run cannot be written below {tempfile.gettempdir()}: "
        f"{_reason(error)}; make room, or let TMPDIR name another folder"
    )


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):  # of a whole folder: (source, destination, reason) for each file
        return str(error.args[0][0][2])
    return error.strerror or str(error)


def processes_of(prefix: str, *, inherited: bool = False) -> Iterator[int]:
    """Those of that run, which have it in their command lines: tritonserver and the models'.

    inherited: those, too, that have it in the environment, as whatever they started.
    """
    for process in Path("/proc").glob("[0-9]*"):
        for file in ("cmdline", "environ") if inherited else ("cmdline",):
            with contextlib.suppress(OSError):
                if prefix.encode() in (process / file).read_bytes():
                    yield int(process.name)
                    break


def remove_leftovers() -> None:
    """Of runs that have no process any more. Those of other containers, which share FOLDER, stay."""
    named = re.compile(rf"triton-vision-(\d+)-{_namespace()}-[0-9a-f]+-")
    found: dict[str, tuple[int, list[Path]]] = {}
    for folder in (FOLDER, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                if name := named.match(path.name):
                    found.setdefault(name[0], (int(name[1]), []))[1].append(path)
    for prefix, (launcher, paths) in found.items():
        if next(processes_of(prefix), None) is None:
            for path in paths:
                with contextlib.suppress(OSError):  # another user's, or gone
                    if path.parent == FOLDER:
                        path.unlink()
                    elif not Path(f"/proc/{launcher}").exists():  # else it may be about to use it
                        shutil.rmtree(path)


def _namespace() -> str:
    """In which process numbers are ours: other containers have others, and we do not see theirs."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"
