"""How a command line ends: what came of it as an exit code, without a traceback for what is foreseen."""

import sys
from collections.abc import Callable

from server.environment.output import until_closed

__all__ = ["exit_code", "until_closed"]


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
