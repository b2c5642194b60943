"""HTTP/1.1 to one server over connections that are kept: the parts of a request out, an answer back.

Knows nothing of Triton. A connection carries one request at a time, and what is above `most` of them waits
for its turn. A request that nobody waits for any longer keeps its connection until it is answered: the server
goes on with it, so others of that kind must not be sent without end.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import httptools

__all__ = ["Answer", "KeptConnections", "Unreachable"]

CONNECT_TIMEOUT_S = 10.0


class Answer(NamedTuple):
    """headers: names in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Unreachable(Exception):
    """The server cannot be connected to, hung up before it had answered, or does not speak HTTP."""


class _HungUp(Exception):
    """Before the first byte of an answer."""


class KeptConnections:
    """To the server at `host` and `port`; made, used and closed in one event loop."""

    def __init__(self, host: str, port: int, most: int):
        self._host, self._port = host, port
        self._turns = asyncio.Semaphore(most)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def ask(self, parts: Sequence[bytes]) -> Answer:
        """parts: a whole request, its head with all headers first. Raises `Unreachable`.

        A server may hang up just as a kept connection is used again; the request is then sent once more.
        """
        await self._turns.acquire()
        if self._idle:
            try:
                return await self._idle.pop().ask(parts)
            except _HungUp:
                await self._turns.acquire()
        try:
            connection = await self._connect()
        except BaseException:
            self._turns.release()
            raise
        try:
            return await connection.ask(parts)
        except _HungUp:
            raise Unreachable("hung up without an answer") from None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        making = loop.create_connection(lambda: _Connection(self), self._host, self._port)
        try:
            _, connection = await asyncio.wait_for(making, CONNECT_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError) as error:
            reason = getattr(error, "strerror", "") or str(error) or "no answer to a connection"
            raise Unreachable(reason) from None
        return connection

    def opened(self, connection: "_Connection") -> None:
        """It is there."""
        self._open.add(connection)

    def answered(self, connection: "_Connection", kept: bool) -> None:
        """Its request is. kept: it takes another."""
        if kept:
            self._idle.append(connection)
        else:
            connection.abort()
        self._turns.release()

    def lost(self, connection: "_Connection", busy: bool) -> None:
        """It is gone. busy: with a request."""
        self._open.discard(connection)
        if busy:
            self._turns.release()
        else:
            self._idle = [other for other in self._idle if other is not connection]

    async def close(self) -> None:
        """End requests under way."""
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # the loop tells of what was lost


class _Connection(asyncio.Protocol):
    """One of them. httptools calls the methods `on_...`."""

    def __init__(self, owner: KeptConnections):
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._asked: asyncio.Future[Answer] | None = None
        self._heard = False
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def ask(self, parts: Sequence[bytes]) -> asyncio.Future[Answer]:
        self._asked = asyncio.get_running_loop().create_future()
        self._heard = False
        self._transport.writelines(parts)
        return self._asked

    def abort(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(Unreachable("what answers there does not speak HTTP"))
            self.abort()

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        asked, self._asked = self._asked, None
        if asked is None:  # an answer to nothing
            self.abort()
            return
        self._owner.answered(self, self._parser.should_keep_alive())
        if not asked.done():  # else nobody waits for it any longer
            asked.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._body)))

    def connection_lost(self, _: Exception | None) -> None:
        self._fail(Unreachable("it hung up before its answer was complete") if self._heard else _HungUp())
        self._owner.lost(self, self._asked is not None)

    def _fail(self, error: Exception) -> None:
        if self._asked and not self._asked.done():
            self._asked.set_exception(error)
