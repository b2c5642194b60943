"""How the strips of one line travel: on a gRPC stream of their own, or as plain requests one after the other.

A channel has `send(Inference)`, `receive(timeout_s)`, which gives the ModelAnswer to the first request that
is not answered yet, and `close()`. The server sees the same requests in the same order either way.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
from tritonclient.utils import InferenceServerException

from ..errors import unavailable
from .address import Address
from .connections import (
    AsyncTransport,
    BlockingTransport,
    grpc_answer,
    grpc_inference,
    grpc_options,
    translated,
)
from .protocol import Inference, ModelAnswer

__all__ = ["AsyncRequestChannel", "AsyncStreamChannel", "RequestChannel", "StreamChannel"]


class RequestChannel:
    """Strips as plain requests: `send` waits for the answer, `receive` hands it out."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport
        self._answers: deque[ModelAnswer] = deque()

    def send(self, inference: Inference) -> None:
        """Waits for the answer; raises what BlockingTransport.perform does."""
        self._answers.append(self._transport.perform(inference))

    def receive(self, timeout_s: float) -> ModelAnswer:
        """It is there already, so `timeout_s` bounds nothing."""
        return self._answers.popleft()

    def close(self) -> None:
        """Nothing to do: the transport belongs to the client."""


class AsyncRequestChannel:
    """RequestChannel for asyncio."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._answers: deque[ModelAnswer] = deque()

    async def send(self, inference: Inference) -> None:
        """See RequestChannel.send."""
        self._answers.append(await self._transport.perform(inference))

    async def receive(self, timeout_s: float) -> ModelAnswer:
        """See RequestChannel.receive."""
        return self._answers.popleft()

    async def close(self) -> None:
        """See RequestChannel.close."""


class StreamChannel:
    """tritonclient has one stream per client, so this is a client, too."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._sent: deque[Inference] = deque()
        self._answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._client = triton_grpc.InferenceServerClient(address.target, **grpc_options(address))
        self._client.start_stream(
            lambda result, error: self._answers.put((result, error)), headers=_headers(address)
        )

    def send(self, inference: Inference) -> None:
        """Waits for no answer. Raises a VisionError where the stream is broken."""
        self._sent.append(inference)
        try:
            self._client.async_stream_infer(**grpc_inference(inference))
        except InferenceServerException:  # the stream broke; the first answer that is missing says why
            with suppress(queue.Empty):
                while error := self._answers.get_nowait()[1]:
                    raise translated(error, self._address) from error
            raise unavailable(self._address.url, "the stream broke") from None

    def receive(self, timeout_s: float) -> ModelAnswer:
        """Raises RequestTimeout after `timeout_s`, or the VisionError that came in place of an answer."""
        try:
            result, error = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise translated(asyncio.TimeoutError(), self._address) from None
        if error:
            raise translated(error, self._address) from error
        answer: ModelAnswer = grpc_answer(self._sent.popleft(), result)
        return answer

    def close(self) -> None:
        """Cancels what is under way, and hangs up."""
        self._client.stop_stream(cancel_requests=True)
        self._client.close()


class AsyncStreamChannel:
    """StreamChannel for asyncio."""

    def __init__(self, address: Address) -> None:
        self._address = address
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
        try:
            result, error = await asyncio.wait_for(self._answers.__anext__(), timeout_s)
        except grpc.RpcError as rpc_error:
            error = InferenceServerException(rpc_error.details(), str(rpc_error.code()))
            raise translated(error, self._address) from rpc_error
        except StopAsyncIteration:
            raise unavailable(self._address.url, "the stream ended") from None
        except asyncio.TimeoutError as timeout:
            raise translated(timeout, self._address) from None
        if error:
            raise translated(error, self._address) from error
        answer: ModelAnswer = grpc_answer(self._sent.popleft(), result)
        return answer

    async def close(self) -> None:
        """See StreamChannel.close."""
        self._outgoing.put_nowait(None)
        self._answers.cancel()
        await self._client.close()


def _headers(address: Address) -> dict[str, str]:
    return {key.lower(): value for key, value in address.headers.items()}  # HTTP/2 has no others
