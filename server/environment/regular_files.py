"""Opens files that somebody else put there: regular ones only, so that no pipe or device is waited for.

A model repository comes from anywhere, and so does a file that a command line names. Opening a FIFO waits for
its other end, reading /dev/zero never ends, and opening a device may do something by itself.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["NotRegularError", "open_regular", "read_regular", "regular"]

NOT_REGULAR = "it is not a regular file"


class NotRegularError(OSError):
    """A FIFO, a socket, a device or a folder, where a file is asked for."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(errno.EINVAL, NOT_REGULAR, os.fspath(path))


def regular(path: str | os.PathLike[str]) -> Path:
    """The same path, for what opens files itself. Raises `NotRegularError`, `OSError` if there is none."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise NotRegularError(path)
    return Path(path)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """The file, open for reading bytes. Raises as `regular` does, whatever takes its place meanwhile."""
    return open(regular(path), "rb", opener=_opened)


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """All of its bytes. Raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def _opened(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NotRegularError(path)
