"""Names of a server's shared memory, and what servers left there of which every process was killed.

Triton's Python backend makes segments below /dev/shm, and begins their names with what it is told to. The
guard removes them; only where it, too, is killed while the launcher is, nobody does.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["new_prefix", "processes_of", "remove_leftovers"]

FOLDER = Path("/dev/shm")


def new_prefix() -> str:
    """Of one run of tritonserver: the launcher's process, where its number means that, and a random part."""
    return f"triton-vision-{os.getpid()}-{_namespace()}-{secrets.token_hex(3)}-"


def processes_of(prefix: str) -> Iterator[int]:
    """Those of that run, which have it in their command lines: tritonserver and the models'."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if prefix.encode() in (process / "cmdline").read_bytes():
                yield int(process.name)


def remove_leftovers() -> None:
    """Of runs that have no process any more. Those of other containers, which share FOLDER, stay."""
    named = re.compile(rf"triton-vision-\d+-{_namespace()}-[0-9a-f]+-")
    with contextlib.suppress(OSError):
        prefixes = {found[0] for name in os.listdir(FOLDER) if (found := named.match(name))}
        for prefix in prefixes:
            if next(processes_of(prefix), None) is None:
                for segment in FOLDER.glob(f"{prefix}*"):
                    with contextlib.suppress(OSError):  # another user's, or gone
                        segment.unlink()


def _namespace() -> str:
    """In which process numbers are ours: other containers have others, and we do not see theirs."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"
