"""What becomes of failures: each is a VisionError, and after a close always the same one."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import rapidjson  # tritonclient's own
from tritonclient.utils import InferenceServerException

from ..errors import AccessDenied, InvalidInput, VisionError, from_server, given_up, no_triton, unavailable
from .address import Address
from .waiting import Timeout, expire, within

__all__ = ["NO_TRITON", "AsyncConnection", "Connection", "translated"]

END_WITHIN_S = 1.0  # what is under way at the close, which takes some turns of the event loop
# What reading raises that has another form than Triton's answers.
NO_TRITON = (
    *(json.JSONDecodeError, rapidjson.JSONDecodeError, UnicodeDecodeError),
    *(LookupError, TypeError, AttributeError, zlib.error),
)


class Connection:
    """What transports and channels do with failures: each is a VisionError, after `close` always the same."""

    # ValueError: no JSON, or not to be sent.
    _failures: tuple[type[Exception], ...] = (InferenceServerException, asyncio.TimeoutError, ValueError)

    def __init__(self, address: Address) -> None:
        self._address = address
        self._closed = False

    @contextmanager
    def _translating(self) -> Iterator[None]:
        if self._closed:
            raise given_up()
        try:
            yield
        except Exception as error:
            if self._closed:
                raise given_up() from error
            if isinstance(error, self._failures):
                raise translated(error, self._address) from error
            raise


class AsyncConnection(Connection):
    """For asyncio. What is under way is ended before it is hung up: gRPC cancels it, and whoever awaits it
    seems to have been cancelled; aiohttp does so, too, and forgets some that wait for a connection."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._under_way: set[Timeout] = set()
        self._all_over = asyncio.Event()

    @asynccontextmanager
    async def _asking(self, timeout_s: float) -> AsyncIterator[None]:
        with self._translating():
            async with within(timeout_s) as timeout:
                self._under_way.add(timeout)
                try:
                    yield
                finally:
                    self._under_way.discard(timeout)
                    self._all_over.set()

    async def _end(self) -> None:
        self._closed = True
        for timeout in self._under_way:
            expire(timeout)
        with suppress(asyncio.TimeoutError):  # those of an event loop that has ended are never over
            async with within(END_WITHIN_S):
                while self._under_way:
                    self._all_over.clear()
                    await self._all_over.wait()


def translated(error: Exception, address: Address) -> VisionError:
    """Our error for one of tritonclient, aiohttp, gRPC or the system; returned, not raised."""
    import aiohttp

    url = address.url
    if "WRONG_VERSION_NUMBER" in str(error):  # what came was no TLS
        return AccessDenied(f"{url} speaks no TLS. Ask it with http:// or grpc://, and without --ssl.")
    if isinstance(error, aiohttp.ClientSSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return AccessDenied(
            f"{url} is not trusted: {error}. Pass its root certificates: --root-certificates."
        )
    if isinstance(error, InferenceServerException):
        return from_server(error.status(), error.message(), url)
    if isinstance(error, asyncio.TimeoutError):
        return from_server("StatusCode.DEADLINE_EXCEEDED", "", url)
    if isinstance(error, NO_TRITON):
        return no_triton(url)
    if isinstance(error, (aiohttp.InvalidURL, ValueError)):
        return InvalidInput(f"{url} cannot be asked: {error}.")
    return unavailable(url, str(error).partition("\n")[0] or type(error).__name__)
