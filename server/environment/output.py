"""What a command does whose output nobody reads any more: it ends quietly, or, if it serves, goes on."""

import contextlib
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["patient_output", "until_closed"]

CLOSED = 1  # Python's own exit status then: docs.python.org/3/library/signal.html, note on SIGPIPE
MOMENT_S = 0.5  # for a reader to take what is written


def until_closed(command: Callable[[], int]) -> int:
    """What `command` returns; `CLOSED`, without a word, where nobody reads its output any more."""
    try:
        try:
            return command()
        finally:
            if sys.stdout:  # a closed pipe shows here, not while Python ends; --help raises SystemExit
                sys.stdout.flush()
    except BrokenPipeError:
        gone = [descriptor for descriptor in (1, 2) if _has_no_reader(descriptor)]
        if not gone:
            raise  # of some other pipe
        for descriptor in gone:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        return CLOSED


def _has_no_reader(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)  # what is wrong with it is told unasked
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class _Patient(io.RawIOBase):
    """Writes to `descriptor`; what nobody takes within `MOMENT_S`, or a full disk does not, is lost."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def writable(self) -> bool:
        """See `io.IOBase.writable`."""
        return True

    def fileno(self) -> int:
        """See `io.IOBase.fileno`."""
        return self._descriptor

    def write(self, data: Any) -> int:
        """All is taken, whatever becomes of it."""
        left = memoryview(data)
        with contextlib.suppress(OSError):
            while left and select.select([], [self._descriptor], [], MOMENT_S)[1]:
                left = left[os.write(self._descriptor, left[: select.PIPE_BUF]) :]
        return len(data)


@contextlib.contextmanager
def patient_output() -> Iterator[None]:
    """Within, a reader of standard output or error that stands still or has gone ends and holds up nobody.

    Standard descriptors that are closed are opened: else sockets get their numbers, and are written to.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    with contextlib.ExitStack() as stack:
        for redirected, stream, number in (
            (contextlib.redirect_stdout, sys.stdout, 1),
            (contextlib.redirect_stderr, sys.stderr, 2),
        ):
            with contextlib.suppress(AttributeError, OSError):  # a notebook's
                descriptor = stream.fileno() if stream else number  # None: it was closed
                patient = io.BufferedWriter(_Patient(descriptor))
                text = io.TextIOWrapper(patient, errors="backslashreplace", line_buffering=True)
                stack.enter_context(redirected(text))
        yield
