"""Listens, serves the application, and stops at Ctrl-C or SIGTERM."""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from ..errors import InvalidInput

__all__ = ["is_loopback", "listening", "serve", "url_of"]

MOST_PORT = 65_535
MOST_CONNECTIONS = 64  # at a time; a browser opens six
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
        return f"'{host}' is no address of this machine. Give one with --host, or leave it out."
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
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
    stops = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(stop, _heard) for stop in stops]  # uvicorn raises it again at its end
    try:
        _Server(config, started).run(sockets=[listener])
    finally:
        for stop, handler in zip(stops, before, strict=True):
            signal.signal(stop, handler)


def _heard(number: int, frame: object) -> None:
    """It has been obeyed by then."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()
