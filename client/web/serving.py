"""Listens, serves the application, and stops at Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import InvalidInput

__all__ = ["is_loopback", "listening", "serve", "url_of"]

MOST_PORT = 65_535
MOST_CONNECTIONS = 64  # at a time; a browser opens six
HEAD_WITHIN_S = 10  # from the connection, or the answer before, to the end of a request's headers
IDLE_WITHIN_S = 5  # of silence after an answer
TAKEN_WITHIN_S = 60  # an answer, where more of it waits than the system buffers
STOP_WITHIN_S = 5


def listening(host: str, port: int) -> socket.socket:
    """host: an address, or a name of this machine; port: 0 takes any free one. Raises InvalidInput."""
    if not 0 <= port <= MOST_PORT:  # getaddrinfo takes more, and means another
        raise InvalidInput(f"port is {port}; it lies between 0 and {MOST_PORT}, and 0 takes any free one.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = found[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InvalidInput(_why_not(host, port, error)) from None


def _why_not(host: str, port: int, error: OSError) -> str:
    code = error.errno
    if code == errno.EADDRINUSE:
        return f"port {port} of {host} is in use. Choose another with --port; 0 takes any free one."
    if code == errno.EACCES:
        return f"port {port} is not allowed to you. Choose one of 1024 and above with --port."
    if isinstance(error, socket.gaierror) or code == errno.EADDRNOTAVAIL:
        return f"'{host}' is not an address of this machine. Give one with --host, or leave it out."
    return f"cannot listen at {host}, port {port}: {error}."


def url_of(listener: socket.socket) -> str:
    """For a browser on this machine."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}/" if address.version == 6 else f"http://{address}:{port}/"


def is_loopback(listener: socket.socket) -> bool:
    """Whether no other machine gets in."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def serve(app: ASGIApp, listener: socket.socket, started: Callable[[], None]) -> None:
    """Until Ctrl-C or SIGTERM, after the requests under way. started: called once requests are taken."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        http=_Connection,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=IDLE_WITHIN_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
    server = _Server(config, started)
    stops = (signal.SIGINT, signal.SIGTERM)
    # uvicorn hears them itself a little later, and raises them again at its end.
    before = [signal.signal(stop, server.handle_exit) for stop in stops]
    try:
        server.run(sockets=[listener])
    finally:
        for stop, handler in zip(stops, before, strict=True):
            signal.signal(stop, handler)


class _Connection(H11Protocol):
    """Hangs up where no request comes, which uvicorn does after an answer only, and until the next byte only;
    and where an answer is not taken."""

    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._late, self._stalled):
            if timer:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(TAKEN_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()

    def _await_head(self) -> None:
        if self._late:
            self._late.cancel()
        self._late = self.loop.call_later(HEAD_WITHIN_S, self._hang_up)

    def _hang_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:  # else a request is being answered
            self.transport.close()  # once what it has to say is taken
            self._stalled = self.loop.call_later(TAKEN_WITHIN_S, self.transport.abort)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()
