"""What the gateway asks of Triton: to infer, which tensors a model has, which versions are served.

Triton's answers come as they are; its errors come as TensorFlow Serving's.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .wire.connections import Answer, KeptConnections, Unreachable
from .wire.inference import Inferred, infer_request, inferred
from .wire.refusal import Refusal, StatusCode
from .wire.shares import Full
from .wire.tensors import Dtype, Tensor, by_datatype

__all__ = ["Signature", "TensorSpec", "Triton", "servable"]

FRESH_S = 5.0  # what is known of a model is asked again
METADATA_TIMEOUT_S = 10.0
MOST_MODELS = 1000  # that something is known of at a time
MOST_CONNECTIONS = 256  # requests in Triton at a time; others wait here
MOST_WAITING = 512  # here; more are refused, and of one model those beyond its share
MOST_QUESTIONS = 8  # about models, beside them
LONGEST_NAME = 255  # of a folder, which a model is
NO_PATH = frozenset(" #?/")  # tritonserver undoes no percent signs, so it cannot be asked for such a name
NO_MODEL = ("stats", None)  # its path is that of Triton's statistics
ID = "[request id: <id_unknown>] "
STATUS_CODES = {
    400: StatusCode.INVALID_ARGUMENT,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    409: StatusCode.ALREADY_EXISTS,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    499: StatusCode.CANCELLED,
    501: StatusCode.UNIMPLEMENTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}  # others are INTERNAL
# tritonserver's words where a model or version is not there, or not loaded (2.51)
NOT_SERVED = (
    "Request for unknown model",
    "is not at ready state",
    "is not found",
    "has no available versions",
)


class TensorSpec(NamedTuple):
    """shape: with the batch; -1 is any."""

    dtype: Dtype
    shape: tuple[int, ...]


class Signature(NamedTuple):
    """A model's tensors, by name, in the order of its configuration. versions: those that are served."""

    version: int
    versions: tuple[int, ...]
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


def servable(model: str, version: int | None) -> str:
    """As TensorFlow Serving names what was asked for."""
    return f"Latest({model})" if version is None else f"Specific({model}, {version})"


class Triton:
    """The Triton at `url` (host:port of its HTTP); made, used and closed in one event loop."""

    def __init__(self, url: str):
        self._url = url
        host, _, port = url.rpartition(":")
        self._inferences = KeptConnections(host.strip("[]"), int(port), MOST_CONNECTIONS, MOST_WAITING)
        self._questions = KeptConnections(host.strip("[]"), int(port), MOST_QUESTIONS)
        self._signatures: dict[tuple[str, int | None], tuple[float, Signature]] = {}

    async def close(self) -> None:
        """End calls under way."""
        await asyncio.gather(self._inferences.close(), self._questions.close())

    async def infer(
        self,
        model: str,
        version: int | None,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
        classes: int = 0,
    ) -> Inferred:
        """outputs: names; none for all. classes: ask for so many labels, no values. timeout_s: what waits
        longer in Triton's queue need not be done, where the model allows it to be said. Raises `Refusal`."""
        path, asked = _path(model, version), time.monotonic()

        def write() -> Sequence[bytes]:
            left = None if timeout_s is None else timeout_s - (time.monotonic() - asked)
            return infer_request(path, self._url, inputs, outputs, left, classes)

        try:
            answer = await self._ask(self._inferences, write, model, version)
        except Refusal:
            self._signatures.pop((model, version), None)
            raise
        return inferred(answer.headers, answer.body)

    async def signature(self, model: str, version: int | None = None) -> Signature:
        """Up to `FRESH_S` seconds old. Raises `Refusal` for what is not served."""
        key, now = (model, version), time.monotonic()
        asked, known = self._signatures.get(key, (-FRESH_S, None))
        if known and now - asked < FRESH_S:
            return known
        if key == NO_MODEL:
            raise _not_served(model, version)
        head = f"GET {_path(model, version)} HTTP/1.1\r\nHost: {self._url}\r\n\r\n"
        try:
            asking = self._ask(self._questions, lambda: [head.encode()], model, version)
            told = json.loads((await asyncio.wait_for(asking, METADATA_TIMEOUT_S)).body)
        except asyncio.TimeoutError:
            raise Refusal(StatusCode.DEADLINE_EXCEEDED, f"Triton at {self._url} does not answer") from None
        versions = tuple(sorted(map(int, told["versions"])))
        served = max(versions, default=0) if version is None else version
        found = Signature(served, versions, _specs(told["inputs"]), _specs(told["outputs"]))
        if len(self._signatures) >= MOST_MODELS:
            self._signatures.clear()
        self._signatures[key] = (now, found)
        return found

    async def _ask(
        self,
        connections: KeptConnections,
        write: Callable[[], Sequence[bytes]],
        model: str,
        version: int | None,
    ) -> Answer:
        try:
            answer = await connections.ask(write, model)
        except Unreachable as error:
            told = f"Triton is not reached at {self._url} ({error}); it may be starting again"
            raise Refusal(StatusCode.UNAVAILABLE, told) from None
        except Full:
            told = f"too many requests for {servable(model, version)} wait already; ask again later"
            raise Refusal(StatusCode.UNAVAILABLE, told) from None
        if answer.status == 200:
            return answer
        words = _words(answer)
        if any(one in words for one in NOT_SERVED):
            raise _not_served(model, version)
        raise Refusal(STATUS_CODES.get(answer.status, StatusCode.INTERNAL), words)


def _path(model: str, version: int | None) -> str:
    """Of a model in Triton. Raises `Refusal` for what is no name."""
    as_it_is = model.isascii() and model.isprintable() and NO_PATH.isdisjoint(model)
    if not as_it_is or len(model) > LONGEST_NAME:
        raise _not_served(model, version)
    return f"/v2/models/{model}" + ("" if version is None else f"/versions/{version}")


def _words(answer: Answer) -> str:
    """Of an error. What its HTTP library cannot read itself, tritonserver answers without JSON."""
    try:
        told = json.loads(answer.body)["error"]
    except (ValueError, TypeError, KeyError):
        return f"Triton answers with status {answer.status}"
    return str(told).removeprefix(ID)


def _not_served(model: str, version: int | None) -> Refusal:
    return Refusal(StatusCode.NOT_FOUND, f"Servable not found for request: {servable(model, version)}")


def _specs(tensors: Any) -> dict[str, TensorSpec]:
    return {
        tensor["name"]: TensorSpec(by_datatype(tensor["datatype"]), tuple(tensor["shape"]))
        for tensor in tensors
    }
