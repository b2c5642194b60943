"""Both interfaces in one event loop, from the first request to the last answer."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..environment.ports import bracketed, listen, url
from ..errors import PortInUseError
from .examples import Examples
from .grpc_interface import Traffic, add_services
from .labels import VersionLabels
from .models import Models
from .rest import RestInterface
from .triton import Triton

__all__ = ["GatewayServer"]

DRAIN_S = 30.0  # for the requests under way at a stop
BEAT_S = 1.0
LATE_S = 0.5  # for those that were sent as it stopped
MOST_CONNECTIONS = 1024  # over REST; further ones get 503
MOST_REQUESTS = 1024  # over gRPC at a time; further ones get RESOURCE_EXHAUSTED
HEAD_WITHIN_S = 10.0  # from the connection, or the answer before, to the end of a request's headers
IDLE_WITHIN_S = 75.0  # of silence after an answer: clients keep connections


@dataclass
class GatewayServer:
    """Serves at `address`, and asks the Triton at `triton_url`, host:port of its HTTP.

    model_config, version_labels: see `VersionLabels`. most_bytes: of a request, and of a tensor in one.
    """

    triton_url: str
    address: str = "127.0.0.1"
    grpc_port: int = 0
    rest_port: int = 0
    model_config: Path | None = None
    version_labels: dict[tuple[str, str], int] = field(default_factory=dict)
    most_bytes: int = 64 * 2**20

    async def serve(
        self, started: Callable[[str, str], None], control: int | None = None, beat: int | None = None
    ) -> None:
        """Until SIGTERM, Ctrl-C, or the end of the pipe `control`; then what is under way is answered.

        started: called with host:port of gRPC and of REST. beat: a pipe that gets a byte every second for as
        long as the event loop turns. Raises `PortInUseError`, `LabelError`.
        """
        labels = VersionLabels(self.model_config, self.version_labels)
        stop = asyncio.Event()
        _at_end(stop, control)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a usual shell's 1,024 are too few
        triton = Triton(self.triton_url)
        models = Models(triton, labels, self.most_bytes)
        examples = Examples(models)
        try:
            with self._listener() as listener:
                traffic = Traffic()
                over_grpc, grpc_port = self._grpc(models, examples, traffic)
                over_http = _Http(_config(RestInterface(models, examples, self.most_bytes)))
                await over_grpc.start()
                http = asyncio.create_task(over_http.serve([listener]))
                started(url(self.address, grpc_port), url(self.address, listener.getsockname()[1]))
                beating = asyncio.create_task(_beat(beat)) if beat is not None else None
                await stop.wait()
                over_http.should_exit = True
                await asyncio.gather(traffic.drain(LATE_S, DRAIN_S), http)
                await over_grpc.stop(LATE_S)
                if beating:
                    beating.cancel()
        finally:
            await triton.close()

    def _listener(self) -> socket.socket:
        try:
            return listen(self.address, self.rest_port)
        except OSError as error:
            raise self._in_use("rest", self.rest_port, error.strerror or str(error)) from None

    def _grpc(self, models: Models, examples: Examples, traffic: Traffic) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", self.most_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ),
            maximum_concurrent_rpcs=MOST_REQUESTS,
        )
        add_services(server, models, examples, traffic)
        try:
            port = server.add_insecure_port(f"{bracketed(self.address)}:{self.grpc_port}")
        except RuntimeError:
            port = 0
        if not port:
            raise self._in_use("grpc", self.grpc_port, "it is in use, or not allowed to you")
        return server, port

    def _in_use(self, name: str, port: int, why: str) -> PortInUseError:
        return PortInUseError(
            f"cannot listen on {bracketed(self.address)}:{port} for TensorFlow Serving's {name}: {why}; "
            "stop what uses it, or choose another (0 takes any free one)"
        )


def _at_end(stop: asyncio.Event, control: int | None) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if control is not None:  # nobody writes to it: it is readable at its end

        def ended() -> None:
            loop.remove_reader(control)
            stop.set()

        loop.add_reader(control, ended)


async def _beat(pipe: int) -> None:
    os.set_blocking(pipe, False)
    while True:
        with contextlib.suppress(OSError):  # nobody listens
            os.write(pipe, b".")
        await asyncio.sleep(BEAT_S)


def _config(app: RestInterface) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        http=_Connection,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=int(IDLE_WITHIN_S),
        timeout_graceful_shutdown=int(DRAIN_S),
    )


class _Http(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are heard above, for both interfaces."""
        yield


class _Connection(H11Protocol):
    """Hangs up where a request's headers do not come to an end, which uvicorn waits for without end."""

    _late: asyncio.TimerHandle | None = None
    _ended = False  # the client has closed its side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_WITHIN_S, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._late:
            self._late.cancel()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Clients may close their side once they have sent all, and wait for the answer."""
        self._ended = True
        return not self._done()

    def _done(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._ended and self._done():
            self.transport.close()
        if self._late:
            self._late.cancel()
        self._late = self.loop.call_later(IDLE_WITHIN_S + HEAD_WITHIN_S, self._hang_up)

    def _hang_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:  # else a request is being answered
            self.transport.abort()
