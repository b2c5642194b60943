"""How a command line ends: what came of it as an exit code, without a traceback for what is foreseen."""

import os
import sys
from collections.abc import Callable

__all__ = ["exit_code"]


def exit_code(
    command: Callable[[], int], errors: tuple[type[Exception], ...], interrupted: str = "interrupted"
) -> int:
    """What `command` returns; 1 after one of `errors`, which is printed, or if the output was closed.

    130 after Ctrl-C, printing `interrupted`.
    """
    try:
        code = command()
        sys.stdout.flush()  # a closed pipe shows here, not while Python ends
        return code
    except BrokenPipeError:  # who read our output has gone, perhaps before all was done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except errors as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
