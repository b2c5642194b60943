"""How a command line ends: what came of it as an exit code, without a traceback for what is foreseen."""

import os
import select
import sys
from collections.abc import Callable

__all__ = ["exit_code", "until_closed"]

CLOSED = 1  # Python's own exit status then: docs.python.org/3/library/signal.html, note on SIGPIPE


def exit_code(
    command: Callable[[], int], errors: tuple[type[Exception], ...], interrupted: str = "interrupted"
) -> int:
    """What `command` returns; 1 after one of `errors`, which is printed, or if the output was closed.

    130 after Ctrl-C, printing `interrupted`.
    """

    def run() -> int:
        try:
            return command()
        except BrokenPipeError:
            raise
        except errors as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(interrupted, file=sys.stderr)
            return 130

    return until_closed(run)


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
