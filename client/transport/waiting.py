"""`async with within(seconds)`: asyncio.TimeoutError once they have passed, or it is made to `expire`.

Not `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes together with the answer.
"""

import sys

__all__ = ["Timeout", "expire", "within"]

if sys.version_info >= (3, 11):
    from asyncio import Timeout
    from asyncio import timeout as within
else:  # aiohttp's own, there
    from async_timeout import Timeout
    from async_timeout import timeout as within


def expire(timeout: Timeout) -> None:
    """Now, unless it is over, or has expired."""
    change = timeout.reschedule if sys.version_info >= (3, 11) else timeout.update
    try:
        change(0)
    except RuntimeError:
        return
