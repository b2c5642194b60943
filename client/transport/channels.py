"""How the strips of one line travel: on a gRPC stream of their own, or as plain requests one after the other.

A channel has `send(Inference)`, `receive(timeout_s)`, which gives the ModelAnswer to the first request that
is not answered yet, and `close()`, also from another thread, after which both fail. The server sees the same
requests in the same order either way.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
from tritonclient.utils import InferenceServerException

from ..errors import given_up, unavailable
from .address import Address
from .connections import AsyncTransport, BlockingTransport, grpc_answer, grpc_inference, grpc_options
from .failures import AsyncConnection, Connection
from .protocol import Inference, ModelAnswer

__all__ = ["AsyncRequestChannel", "AsyncStreamChannel", "RequestChannel", "StreamChannel"]


class RequestChannel(Connection):
    """Strips as plain requests: `send` waits for the answer, `receive` hands it out."""

    def __init__(self, address: Address, transport: BlockingTransport) -> None:
        super().__init__(address)
        self._transport = transport
        self._answers: deque[ModelAnswer] = deque()

    def send(self, inference: Inference) -> None:
        """Waits for the answer; raises what BlockingTransport.perform does."""
        with self._translating():
            self._answers.append(self._transport.perform(inference))

    def receive(self, timeout_s: float) -> ModelAnswer:
        """It is there already, so `timeout_s` bounds nothing."""
        return self._answers.popleft()

    def close(self) -> None:
        """The transport belongs to the client, and stays open."""
        self._closed = True


class AsyncRequestChannel(AsyncConnection):
    """RequestChannel for asyncio."""

    def __init__(self, address: Address, transport: AsyncTransport) -> None:
        super().__init__(address)
        self._transport = transport
        self._answers: deque[ModelAnswer] = deque()

    async def send(self, inference: Inference) -> None:
        """See RequestChannel.send."""
        async with self._asking(inference.timeout_s):
            self._answers.append(await self._transport.perform(inference))

    async def receive(self, timeout_s: float) -> ModelAnswer:
        """See RequestChannel.receive."""
        return self._answers.popleft()

    async def close(self) -> None:
        """See RequestChannel.close."""
        await self._end()


class StreamChannel(Connection):
    """tritonclient has one stream per client, so this is a client, too."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._closing = threading.Lock()
        self._sent: deque[Inference] = deque()
        self._answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._client = triton_grpc.InferenceServerClient(address.target, **grpc_options(address))
        # The thread that answers come in is a daemon, as this one is: no interpreter waits for it at its end.
        starting = threading.Thread(target=self._start, daemon=True)
        starting.start()
        starting.join()

    def _start(self) -> None:
        try:
            self._client.start_stream(
                lambda result, error: self._answers.put((result, error)), headers=_headers(self._address)
            )
        except Exception as error:
            self._answers.put((None, error))

    def send(self, inference: Inference) -> None:
        """Waits for no answer. Raises a VisionError where the stream is broken."""
        with self._translating():
            self._sent.append(inference)
            try:
                self._client.async_stream_infer(**grpc_inference(inference))
            except InferenceServerException:  # the stream broke; the first answer that is missing says why
                with suppress(queue.Empty):
                    while error := self._answers.get_nowait()[1]:
                        raise error from None
                raise unavailable(self._address.url, "the stream broke") from None

    def receive(self, timeout_s: float) -> ModelAnswer:
        """Raises RequestTimeout after `timeout_s`, or the VisionError that came in place of an answer."""
        with self._translating():
            try:
                result, error = self._answers.get(timeout=timeout_s)
            except queue.Empty:
                raise asyncio.TimeoutError from None
            if error:
                raise error
            answer: ModelAnswer = grpc_answer(self._sent.popleft(), result)
            return answer

    def close(self) -> None:
        """Cancels what is under way, and hangs up."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._answers.put((None, given_up()))  # to who waits for more
        # tritonclient can cancel as well, and then leaves a thread of gRPC's that waits for requests.
        self._client._channel.close()
        self._client.close()


class AsyncStreamChannel(AsyncConnection):
    """StreamChannel for asyncio."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._sent: deque[Inference] = deque()
        self._outgoing: asyncio.Queue[Inference | None] = asyncio.Queue()
        self._client = triton_grpc_aio.InferenceServerClient(address.target, **grpc_options(address))
        self._answers = self._client.stream_infer(self._requests(), headers=_headers(address))

    async def _requests(self) -> AsyncIterator[dict[str, Any]]:
        while inference := await self._outgoing.get():
            yield grpc_inference(inference)

    async def send(self, inference: Inference) -> None:
        """Only queues the strip: where the stream is broken, `receive` says so."""
        self._sent.append(inference)
        self._outgoing.put_nowait(inference)

    async def receive(self, timeout_s: float) -> ModelAnswer:
        """See StreamChannel.receive."""
        async with self._asking(timeout_s):
            try:
                result, error = await self._answers.__anext__()
            except grpc.RpcError as rpc_error:
                raise InferenceServerException(rpc_error.details(), str(rpc_error.code())) from rpc_error
            except StopAsyncIteration:
                raise unavailable(self._address.url, "the stream ended") from None
            if error:
                raise error
            answer: ModelAnswer = grpc_answer(self._sent.popleft(), result)
            return answer

    async def close(self) -> None:
        """See StreamChannel.close."""
        await self._end()
        self._outgoing.put_nowait(None)
        self._answers.cancel()
        await self._client.close()


def _headers(address: Address) -> dict[str, str]:
    return {key.lower(): value for key, value in address.headers.items()}  # HTTP/2 has no others
