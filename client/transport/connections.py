"""tritonclient behind one interface: `perform(Call | Inference)` gives what the server answers.

The blocking HTTP transport runs tritonclient's asyncio client on a thread of its own. tritonclient's
blocking one stands on gevent: an object of it belongs to one thread and its time-outs bound single reads and
writes. The blocking gRPC client has neither fault, and asyncio gRPC must not be hidden in a thread: all
event loops of a process share one queue (grpc issue 25364).

What HTTP needs, aiohttp and gevent, is imported where it is used: it takes as long as half of all else.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, Protocol

import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio

from ..errors import given_up
from .address import Address
from .failures import NO_TRITON, AsyncConnection, Connection
from .protocol import Call, Inference, InputTensor, ModelAnswer

__all__ = [
    "AsyncTransport",
    "BlockingTransport",
    "grpc_answer",
    "grpc_inference",
    "grpc_options",
    "open_async",
    "open_blocking",
]

# The server drops a queued request a little after its client stops waiting, never before, so that the caller
# always sees a time-out as a time-out. (gRPC tells the server of a given-up request; HTTP does not.)
SERVER_GRACE_S = 0.1

_GRPC_AS_JSON = (
    "get_server_metadata",
    "get_model_config",
    "get_model_repository_index",
    "get_inference_statistics",
)
_GRPC_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that restarts is found again within our own back-off; gRPC's begins with a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class BlockingTransport(Protocol):
    """A connection for the blocking client, from any number of threads."""

    def perform(self, step: Call | Inference) -> Any:
        """A ModelAnswer to an Inference; to a Call, what tritonclient gives, with JSON as dicts and lists.

        Raises a VisionError, which after the step's `timeout_s` is RequestTimeout.
        """

    def close(self) -> None:
        """What is under way fails."""


class AsyncTransport(Protocol):
    """BlockingTransport for asyncio, in one event loop."""

    async def perform(self, step: Call | Inference) -> Any:
        """See BlockingTransport.perform."""

    async def close(self) -> None:
        """See BlockingTransport.close."""


def open_blocking(address: Address, concurrency: int) -> BlockingTransport:
    """concurrency: the most connections over HTTP; over gRPC there is one. Sends nothing yet."""
    if address.protocol == "grpc":
        return GrpcTransport(address)
    return HttpTransport(address, concurrency)


def open_async(address: Address, concurrency: int) -> AsyncTransport:
    """To be called, and used, inside a running event loop."""
    if address.protocol == "grpc":
        return AsyncGrpcTransport(address)
    return AsyncHttpTransport(address, concurrency)


class GrpcTransport(Connection):
    """Safe to share between threads, as tritonclient's is but for streams (channels.py has those)."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._client = triton_grpc.InferenceServerClient(address.target, **grpc_options(address))

    def perform(self, step: Call | Inference) -> Any:
        """See BlockingTransport.perform."""
        method, arguments = _grpc_request(step, self._address)
        with self._translating():
            return grpc_answer(step, getattr(self._client, method)(**arguments))

    def close(self) -> None:
        """See BlockingTransport.close."""
        self._closed = True
        self._client.close()


class AsyncGrpcTransport(AsyncConnection):
    """GrpcTransport for asyncio."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._client = triton_grpc_aio.InferenceServerClient(address.target, **grpc_options(address))

    async def perform(self, step: Call | Inference) -> Any:
        """See BlockingTransport.perform."""
        method, arguments = _grpc_request(step, self._address)
        async with self._asking(step.timeout_s):
            return grpc_answer(step, await getattr(self._client, method)(**arguments))

    async def close(self) -> None:
        """See BlockingTransport.close."""
        await self._end()
        await self._client.close()


class AsyncHttpTransport(AsyncConnection):
    """tritonclient's asyncio client; concurrency: the most connections."""

    def __init__(self, address: Address, concurrency: int) -> None:
        import aiohttp
        import tritonclient.http.aio as triton_http_aio

        super().__init__(address)
        self._failures = (*self._failures, *NO_TRITON, aiohttp.ClientError, OSError)
        self._connections = asyncio.Semaphore(concurrency)
        self._client = triton_http_aio.InferenceServerClient(
            address.target,
            conn_limit=0,  # aiohttp's own loses its turn with a request that is cancelled as that comes
            conn_timeout=None,  # each step has its own
            ssl=address.tls is not None,
            ssl_context=address.tls.context() if address.tls else None,
        )

    async def perform(self, step: Call | Inference) -> Any:
        """See BlockingTransport.perform."""
        method, arguments = _http_request(step, self._address)
        async with self._asking(step.timeout_s), self._connections:
            return _http_answer(step, await getattr(self._client, method)(**arguments))

    async def close(self) -> None:
        """See BlockingTransport.close."""
        await self._end()
        await self._client.close()


class HttpTransport:
    """AsyncHttpTransport on an event loop in a thread of its own; safe to share between threads."""

    def __init__(self, address: Address, concurrency: int) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=_run_until_stopped, args=(self._loop,), name="triton-vision-http", daemon=True
        )
        self._thread.start()
        self._transport = self._run(_opened(address, concurrency))
        # Also of a client that is dropped without a close.
        self._stop_loop = weakref.finalize(self, _stop, self._loop, self._transport, os.getpid())

    def perform(self, step: Call | Inference) -> Any:
        """See BlockingTransport.perform."""
        try:
            return self._run(self._transport.perform(step))
        except CancelledError as error:  # by `close`, from another thread
            raise given_up() from error

    def close(self) -> None:
        """See BlockingTransport.close; the thread ends, too."""
        with self._lock:  # what comes after this would wait for a loop that has stopped
            self._closed = True
        self._stop_loop()
        self._thread.join()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        with self._lock:
            if self._closed:
                coroutine.close()
                raise CancelledError
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C leaves no request behind
            future.cancel()
            raise


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, transport: AsyncHttpTransport, process: int) -> None:
    """What is under way fails, and the thread ends; not in the child of a fork, which has no such thread."""
    if process == os.getpid():
        asyncio.run_coroutine_threadsafe(_stopping(transport), loop)


async def _stopping(transport: AsyncHttpTransport) -> None:
    requests = asyncio.all_tasks() - {asyncio.current_task()}
    try:
        await transport.close()
        await asyncio.gather(*requests, return_exceptions=True)
    finally:
        asyncio.get_running_loop().stop()


async def _opened(address: Address, concurrency: int) -> AsyncHttpTransport:
    return AsyncHttpTransport(address, concurrency)


def grpc_options(address: Address) -> dict[str, Any]:
    """What tritonclient's gRPC clients take besides the target: TLS, and the channel's arguments."""
    tls = address.tls
    files = {
        "root_certificates": tls and tls.root_certificates,
        "private_key": tls and tls.private_key,
        "certificate_chain": tls and tls.certificate_chain,
    }
    return {"ssl": tls is not None, **files, "channel_args": _GRPC_CHANNEL}


def _grpc_request(step: Call | Inference, address: Address) -> tuple[str, dict[str, Any]]:
    headers = {key.lower(): value for key, value in _headers(step, address).items()}  # HTTP/2 has no others
    common = {"headers": headers, "client_timeout": step.timeout_s}
    if isinstance(step, Inference):
        return "infer", {**grpc_inference(step), **common}
    as_json = {"as_json": True} if step.method in _GRPC_AS_JSON else {}
    return step.method, {**step.arguments, **as_json, **common}


def _headers(step: Call | Inference, address: Address) -> dict[str, str]:
    """The address's, and by which id others tell of this request; who gives such headers, has them."""
    ids = (
        {"x-request-id": step.request_id, "traceparent": step.traceparent}
        if isinstance(step, Inference)
        else {}
    )
    given = {name.lower() for name in address.headers}
    return {**address.headers, **{name: told for name, told in ids.items() if told and name not in given}}


def _http_request(step: Call | Inference, address: Address) -> tuple[str, dict[str, Any]]:
    import tritonclient.http as triton_http

    common = {"headers": _headers(step, address)}  # new each time: tritonclient writes into it
    if isinstance(step, Inference):
        return "infer", {**_inference(step, triton_http), **common}
    return step.method, {**step.arguments, **common}


def grpc_inference(step: Inference) -> dict[str, Any]:
    """What tritonclient's `infer` takes over gRPC; its `timeout`, for the server, is in microseconds."""
    return _inference(step, triton_grpc)


def _inference(step: Inference, library: Any) -> dict[str, Any]:
    arguments = {
        "model_name": step.model,
        "inputs": [_input(tensor, library) for tensor in (step.tensor, *step.more)],
        "outputs": [
            library.InferRequestedOutput(name, class_count=step.class_count) for name in step.outputs
        ],
        "timeout": round((step.timeout_s + SERVER_GRACE_S) * 1e6),  # microseconds, read by the server
        "parameters": dict(step.parameters) or None,
        "request_id": step.request_id,
    }
    if step.sequence:
        arguments["sequence_id"] = step.sequence.correlation_id
        arguments["sequence_start"] = step.sequence.start
        arguments["sequence_end"] = step.sequence.end
    return arguments


def _input(tensor: InputTensor, library: Any) -> Any:
    made = library.InferInput(tensor.name, list(tensor.array.shape), tensor.datatype)
    if tensor.region:
        made.set_shared_memory(tensor.region, tensor.region_bytes)
    else:
        made.set_data_from_numpy(tensor.array)
    return made


def grpc_answer(step: Call | Inference, answer: Any) -> Any:
    """tritonclient's answer over gRPC as HTTP has it, where the two differ; a ModelAnswer to an Inference."""
    if isinstance(step, Inference):
        response = answer.get_response()
        return ModelAnswer(response.model_name, response.model_version, _arrays(step, answer))
    if step.method == "get_model_config":
        return answer["config"]
    if step.method == "get_model_repository_index":
        return answer.get("models", [])
    return answer


def _http_answer(step: Call | Inference, answer: Any) -> Any:
    if isinstance(step, Inference):
        response = answer.get_response()
        return ModelAnswer(response["model_name"], response["model_version"], _arrays(step, answer))
    return answer


def _arrays(step: Inference, answer: Any) -> dict[str, Any]:
    return {name: answer.as_numpy(name) for name in step.outputs}
