"""How a command ends whose output nobody reads any more, as under `| head -1`: quietly."""

import os
import select
import sys
from collections.abc import Callable

__all__ = ["until_closed"]

CLOSED = 0  # whoever stops reading has what was asked for


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
