"""tritonclient behind one interface: `perform(Call | Inference)` gives what the server answers.

The blocking HTTP transport runs tritonclient's asyncio client on a thread of its own. tritonclient's
blocking one stands on gevent: an object of it belongs to one thread and its time-outs bound single reads and
writes. The blocking gRPC client has neither fault, and asyncio gRPC must not be hidden in a thread: all
event loops of a process share one queue (grpc issue 25364).

What HTTP needs, aiohttp and gevent, is imported where it is used: it takes as long as half of all else.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Protocol

import rapidjson  # tritonclient's own
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
from tritonclient.utils import InferenceServerException

from ..errors import CANCELLED, AccessDenied, InvalidInput, VisionError, from_server, unavailable
from .address import Address
from .protocol import Call, Inference, InputTensor, ModelAnswer

__all__ = [
    "AsyncTransport",
    "BlockingTransport",
    "grpc_answer",
    "grpc_inference",
    "grpc_options",
    "open_async",
    "open_blocking",
    "translated",
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


class _Transport:
    """What all transports do with failures: each is a VisionError, and after `close` always the same one."""

    _failures: tuple[type[Exception], ...] = (
        InferenceServerException,
        ValueError,
    )  # ValueError: no JSON, or not to be sent

    def __init__(self, address: Address) -> None:
        self._address = address
        self._closed = False

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self._closed:
                raise from_server(CANCELLED, None, self._address.url) from error
            if isinstance(error, self._failures):
                raise translated(error, self._address) from error
            raise


class GrpcTransport(_Transport):
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


class AsyncGrpcTransport(_Transport):
    """GrpcTransport for asyncio."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._client = triton_grpc_aio.InferenceServerClient(address.target, **grpc_options(address))

    async def perform(self, step: Call | Inference) -> Any:
        """See BlockingTransport.perform."""
        method, arguments = _grpc_request(step, self._address)
        with self._translating():
            try:
                return grpc_answer(step, await getattr(self._client, method)(**arguments))
            except asyncio.CancelledError:
                if (
                    self._closed and not _is_being_cancelled()
                ):  # grpc.aio's word for a channel that was closed
                    raise from_server(CANCELLED, None, self._address.url) from None
                raise

    async def close(self) -> None:
        """See BlockingTransport.close."""
        self._closed = True
        await self._client.close()


class AsyncHttpTransport(_Transport):
    """tritonclient's asyncio client; concurrency: the most connections."""

    def __init__(self, address: Address, concurrency: int) -> None:
        import aiohttp
        import tritonclient.http.aio as triton_http_aio

        super().__init__(address)
        self._failures = (*self._failures, aiohttp.ClientError, asyncio.TimeoutError, OSError)
        self._client = triton_http_aio.InferenceServerClient(
            address.target,
            conn_limit=concurrency,
            conn_timeout=None,  # each step has its own
            ssl=address.tls is not None,
            ssl_context=address.tls.context() if address.tls else None,
        )

    async def perform(self, step: Call | Inference) -> Any:
        """See BlockingTransport.perform."""
        method, arguments = _http_request(step, self._address)
        with self._translating():
            answer = await asyncio.wait_for(getattr(self._client, method)(**arguments), step.timeout_s)
            return _http_answer(step, answer)

    async def close(self) -> None:
        """See BlockingTransport.close."""
        self._closed = True
        await self._client.close()


class HttpTransport:
    """AsyncHttpTransport on an event loop in a thread of its own; safe to share between threads."""

    def __init__(self, address: Address, concurrency: int) -> None:
        self._url = address.url
        self._lock = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triton-vision-http", daemon=True)
        self._thread.start()
        self._transport = self._run(_opened(address, concurrency))

    def perform(self, step: Call | Inference) -> Any:
        """See BlockingTransport.perform."""
        try:
            return self._run(self._transport.perform(step))
        except CancelledError as error:  # by `close`, from another thread
            raise from_server(CANCELLED, None, self._url) from error

    def close(self) -> None:
        """See BlockingTransport.close; the thread ends, too."""
        with self._lock:  # what comes after this would wait for a loop that has stopped
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        requests = asyncio.all_tasks() - {asyncio.current_task()}
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        await self._transport.close()

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


def _is_being_cancelled() -> bool:
    """Whether somebody cancelled this task; Python 3.10 does not know."""
    task = asyncio.current_task()
    return sys.version_info >= (3, 11) and task is not None and task.cancelling() > 0


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
    if isinstance(error, (json.JSONDecodeError, rapidjson.JSONDecodeError)):
        return unavailable(url, "something else answered")
    if isinstance(error, (aiohttp.InvalidURL, ValueError)):
        return InvalidInput(f"{url} cannot be asked: {error}.")
    return unavailable(url, str(error).partition("\n")[0] or type(error).__name__)
