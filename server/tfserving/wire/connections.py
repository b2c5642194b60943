"""HTTP/1.1 to one server over connections that are kept: the parts of a request out, an answer back.

Knows nothing of Triton. A connection carries one request at a time; what gets none waits for its turn, and
where too many wait, it is refused. A request that nobody waits for any longer keeps its connection until it
is answered: the server goes on with it, so others of that kind must not be sent without end. Those of some
kinds the server may never answer: `Shares` has connections left for others.
"""

import asyncio
import math
import socket
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import httptools

from .shares import Shares

__all__ = ["Answer", "KeptConnections", "Unreachable"]

CONNECT_TIMEOUT_S = 10.0
NO_ANSWER = "hung up without an answer"
AT_ONCE_S = 0.5  # a kept connection that ends so soon had ended before the request was there
# Ends connections to a machine that is gone. TCP_USER_TIMEOUT would also end those to a server that is only
# too busy to read; what is not acknowledged is given up by the kernel, after a quarter of an hour.
KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


class Answer(NamedTuple):
    """headers: names in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Unreachable(Exception):
    """The server cannot be connected to, hung up before it had answered, or does not speak HTTP."""


class _HungUp(Exception):
    """Before it can have taken up the request."""


class KeptConnections:
    """To the server at `host` and `port`; made, used and closed in one event loop.

    most: requests at a time. most_waiting: others that wait for their turn.
    """

    def __init__(self, host: str, port: int, most: int, most_waiting: float = math.inf):
        self._host, self._port = host, port
        self._turns = Shares(most, most_waiting)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._closed = False

    async def ask(self, write: Callable[[], Sequence[bytes]], kind: str = "") -> Answer:
        """write: called once it is the request's turn, for its parts, the head first. Raises `Unreachable`;
        `Full` where too many of its kind wait.

        A server may hang up just as a kept connection is used again; the request is then sent once more. Not
        so where it hangs up later: it may have done what was asked.
        """
        parts = await self._turn(write, kind)
        if self._idle:
            try:
                return await self._idle.pop().ask(parts, kind)
            except _HungUp:
                parts = await self._turn(write, kind)
        try:
            connection = await self._connect()
        except BaseException:
            self._turns.give_back(kind)
            raise
        try:
            return await connection.ask(parts, kind)
        except _HungUp:
            raise Unreachable(NO_ANSWER) from None

    async def _turn(self, write: Callable[[], Sequence[bytes]], kind: str) -> Sequence[bytes]:
        await self._turns.take(kind)
        try:
            if self._closed:
                raise Unreachable("no longer asked")
            return write()
        except BaseException:
            self._turns.give_back(kind)
            raise

    async def _connect(self) -> "_Connection":
        loop, connection = asyncio.get_running_loop(), _Connection(self)
        making = loop.create_task(loop.create_connection(lambda: connection, self._host, self._port))
        try:
            # wait_for would lose a cancellation that comes as the connection does (before Python 3.12)
            await asyncio.wait([making], timeout=CONNECT_TIMEOUT_S)
            if not making.done():
                raise Unreachable("no answer to a connection")
            making.result()
            if self._closed:
                raise Unreachable("no longer asked")
        except (OSError, UnicodeError) as error:  # the latter of a host that is none
            raise Unreachable(getattr(error, "strerror", "") or str(error)) from None
        except BaseException:
            making.cancel()
            connection.abort()
            raise
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
        self._turns.give_back(connection.kind)

    def lost(self, connection: "_Connection", busy: bool) -> None:
        """It is gone. busy: with a request."""
        self._open.discard(connection)
        if busy:
            self._turns.give_back(connection.kind)
        else:
            self._idle = [other for other in self._idle if other is not connection]

    async def close(self) -> None:
        """End requests under way, and those that wait for their turn."""
        self._closed = True
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # the loop tells of what was lost


class _Connection(asyncio.Protocol):
    """One of them. httptools calls the methods `on_...`. kind: of its request."""

    kind = ""

    def __init__(self, owner: KeptConnections):
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._asked_at = 0.0
        self._asked: asyncio.Future[Answer] | None = None
        self._heard = False
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def ask(self, parts: Sequence[bytes], kind: str) -> asyncio.Future[Answer]:
        self.kind = kind
        self._asked = asyncio.get_running_loop().create_future()
        self._asked_at, self._heard = time.monotonic(), False
        if self._transport is None:  # it was lost before this
            self.connection_lost(None)
        else:
            self._transport.writelines(parts)
        return self._asked

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        wire = transport.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            wire.setsockopt(socket.IPPROTO_TCP, option, value)
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
        self._transport = None
        if self._heard:
            self._fail(Unreachable("it hung up before its answer was complete"))
        elif time.monotonic() - self._asked_at > AT_ONCE_S:
            self._fail(Unreachable(NO_ANSWER))
        else:
            self._fail(_HungUp())
        self._owner.lost(self, self._asked is not None)

    def _fail(self, error: Exception) -> None:
        if self._asked and not self._asked.done():
            self._asked.set_exception(error)
