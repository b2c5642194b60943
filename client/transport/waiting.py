"""`async with within(seconds)`: asyncio.TimeoutError once they have passed, or it is made to `expire`.

Not `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes together with the answer.
"""

from __future__ import annotations

import asyncio
import sys

__all__ = ["Timeout", "expire", "within"]

if sys.version_info >= (3, 11):
    from asyncio import Timeout
    from asyncio import timeout as within

    def expire(timeout: Timeout) -> None:
        """Soon, from any task, unless it is over or has expired."""
        if not timeout.expired():
            timeout.reschedule(0)

else:

    class Timeout:
        """As of Python 3.11, as far as it is used here."""

        def __init__(self, seconds: float) -> None:
            self._seconds = seconds
            self._is_over = self._has_expired = False

        async def __aenter__(self) -> Timeout:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            self._timer = self._loop.call_later(self._seconds, self._expire)
            return self

        async def __aexit__(self, kind: type[BaseException] | None, *exception: object) -> None:
            self._timer.cancel()
            self._is_over = True
            if self._has_expired and kind is asyncio.CancelledError:
                raise asyncio.TimeoutError

        def expire_soon(self) -> None:
            """After those who were cancelled before have heard of it."""
            self._loop.call_soon(self._expire)

        def _expire(self) -> None:
            if not (self._is_over or self._has_expired) and self._task:
                self._has_expired = True
                self._task.cancel()

    within = Timeout

    def expire(timeout: Timeout) -> None:
        """Soon, from any task, unless it is over or has expired."""
        timeout.expire_soon()
