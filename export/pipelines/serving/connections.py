"""A Triton server over gRPC or HTTP: what it says of itself, requests sent to it, executions it counted."""

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from export.common.errors import ServingError

__all__ = [
    "Answer",
    "Connection",
    "ExecutionCounts",
    "GrpcConnection",
    "InferRequest",
    "connect",
    "message_of",
    "words_of_the_server",
]

Answer = dict[str, NDArray[Any]]

TIMEOUT_S = 300.0  # of one call; the first request of a large model may build kernels for a minute


@dataclass(frozen=True)
class InferRequest:
    """arrays: with a batch dimension where the model batches. sequence: its correlation ID, 0 for none."""

    arrays: Mapping[str, NDArray[Any]]
    sequence: int = 0
    start: bool = False
    end: bool = False
    classes: str = ""  # the output to answer with the name of its best class, alone


@dataclass(frozen=True)
class ExecutionCounts:
    """What a model did since it was loaded. sizes: how many executions had how many items."""

    requests: int
    executions: int
    sizes: Mapping[int, int]

    def since(self, before: "ExecutionCounts") -> "ExecutionCounts":
        """What happened after `before` was taken; sizes without an execution since then are left out."""
        sizes = {size: count - before.sizes.get(size, 0) for size, count in self.sizes.items()}
        return ExecutionCounts(
            self.requests - before.requests,
            self.executions - before.executions,
            {size: count for size, count in sizes.items() if count},
        )


def connect(url: str) -> "Connection":
    """The server at HOST:PORT, whichever of gRPC and HTTP it speaks; http:// or grpc:// before it decides.

    Raises `ServingError` when nothing there is a Triton server.
    """
    scheme, separator, rest = url.rpartition("://")
    if separator and scheme not in ("http", "grpc"):
        raise ServingError(f"{url}: give HOST:PORT, http://HOST:PORT or grpc://HOST:PORT")
    address = rest.rstrip("/")
    both: list[type[Connection]] = [_Http, GrpcConnection]
    kinds = [kind for kind in both if scheme in ("", kind.name.lower())]
    problems = []
    for kind in kinds:
        try:
            return kind(address)
        except (InferenceServerException, HTTPException, OSError, ValueError, KeyError) as error:
            problems.append(f"{kind.name}: {message_of(error)}")
    raise ServingError(
        f"no Triton server answers at {address} ({'; '.join(problems)}); is it started, and is that the "
        "port of gRPC (8001) or HTTP (8000)?"
    )


class Connection(ABC):
    """A Triton server over one of its protocols."""

    name: str
    version: str
    _library: Any  # tritonclient.grpc or tritonclient.http

    @abstractmethod
    def __init__(self, address: str) -> None: ...

    @abstractmethod
    def config(self, model: str, version: str) -> ModelConfig:
        """As the server completed it. Raises `InferenceServerException` or `OSError` if it is not ready."""

    @abstractmethod
    def statistics(self, model: str, version: str) -> ExecutionCounts:
        """Requests that succeeded, and executions; for "" the sum over all versions. Raises as `config`."""

    @abstractmethod
    def send(
        self, model: str, version: str, request: InferRequest, outputs: Sequence[str]
    ) -> Callable[[], Answer]:
        """Send without waiting; what is returned waits for the answer, these outputs by name, or raises."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connections; leaving the `with` block does it."""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _inputs(self, arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        inputs = []
        for name, array in arrays.items():
            tensor = self._library.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
            inputs.append(tensor)
        return inputs

    def _arguments(self, version: str, request: InferRequest, outputs: Sequence[str]) -> dict[str, Any]:
        wanted = [
            self._library.InferRequestedOutput(name, class_count=1 if request.classes else 0)
            for name in ([request.classes] if request.classes else outputs)
        ]
        arguments: dict[str, Any] = {"inputs": self._inputs(request.arrays), "outputs": wanted}
        arguments["model_version"] = version
        if request.sequence:
            arguments |= {"sequence_id": request.sequence, "sequence_start": request.start}
            arguments["sequence_end"] = request.end
        return arguments


class GrpcConnection(Connection):
    """gRPC alone loads models. `InferenceServerException` if nothing answers at HOST:PORT within 10 s."""

    name = "gRPC"

    def __init__(self, address: str) -> None:
        import tritonclient.grpc

        self._library = tritonclient.grpc
        self._client = tritonclient.grpc.InferenceServerClient(address)
        try:
            self.version = self._client.get_server_metadata(client_timeout=10).version
        except BaseException:
            self._client.close()
            raise

    def config(self, model: str, version: str) -> ModelConfig:
        """Asks for the metadata first, which fails unless the model is ready."""
        self._client.get_model_metadata(model, version, client_timeout=TIMEOUT_S)  # fails if it is not ready
        return self._client.get_model_config(model, version, client_timeout=TIMEOUT_S).config

    def close(self) -> None:
        """Closes the channel."""
        self._client.close()

    def models(self) -> list[dict[str, Any]]:
        """The repository index: name, version, state, reason."""
        index = self._client.get_model_repository_index(as_json=True, client_timeout=TIMEOUT_S)
        return index.get("models", [])

    def load(self, model: str) -> None:
        """Load it (again), in explicit mode, within 300 s. Raises `InferenceServerException` otherwise."""
        self._client.load_model(model, client_timeout=TIMEOUT_S)

    def unload(self, model: str) -> None:
        """Take a model out of service. Raises as `load`."""
        self._client.unload_model(model, client_timeout=TIMEOUT_S)

    def statistics(self, model: str, version: str) -> ExecutionCounts:
        """Read from JSON, in which protobuf leaves out counts of 0."""
        found = self._client.get_inference_statistics(model, version, as_json=True, client_timeout=TIMEOUT_S)
        return _executions(found)

    def send(
        self, model: str, version: str, request: InferRequest, outputs: Sequence[str]
    ) -> Callable[[], Answer]:
        """On a thread of the client library, so that requests reach the server together."""
        future: Future[Any] = Future()

        def done(result: object, error: Exception | None) -> None:
            future.set_exception(error) if error else future.set_result(result)

        self._client.async_infer(
            model, callback=done, client_timeout=TIMEOUT_S, **self._arguments(version, request, outputs)
        )
        return lambda: _outputs(future.result(), request, outputs)


class _Http(Connection):
    """Requests are written at once and answers read afterwards, each on a connection of its own, so that they
    reach the server together; the client library sends them one after the other."""

    name = "HTTP"

    def __init__(self, address: str) -> None:
        self._address = address
        self._idle: list[HTTPConnection] = []
        self.version = self._json("/v2")["version"]
        import tritonclient.http

        self._library = tritonclient.http

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def config(self, model: str, version: str) -> ModelConfig:
        self._json(_path(model, version))  # fails if it is not ready
        found = self._json(f"{_path(model, version)}/config")
        return json_format.ParseDict(found, ModelConfig(), ignore_unknown_fields=True)

    def statistics(self, model: str, version: str) -> ExecutionCounts:
        return _executions(self._json(f"{_path(model, version)}/stats"))

    def send(
        self, model: str, version: str, request: InferRequest, outputs: Sequence[str]
    ) -> Callable[[], Answer]:
        arguments = self._arguments(version, request, outputs)
        del arguments["model_version"]
        body, json_size = self._library.InferenceServerClient.generate_request_body(**arguments)
        headers = {"Inference-Header-Content-Length": str(json_size)} if json_size else {}
        connection = self._request("POST", f"{_path(model, version)}/infer", body, headers)

        def wait() -> Answer:
            header, content = self._answer(connection)
            size = int(header) if header else None
            result = self._library.InferenceServerClient.parse_response_body(content, header_length=size)
            return _outputs(result, request, outputs)

        return wait

    def _json(self, path: str) -> Any:
        return json.loads(self._answer(self._request("GET", path, b"", {}))[1])

    def _request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> HTTPConnection:
        connection = self._idle.pop() if self._idle else HTTPConnection(self._address, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, headers)
        except OSError:  # an idle one that the server has closed
            connection.close()
            connection.request(method, path, body, headers)
        return connection

    def _answer(self, connection: HTTPConnection) -> tuple[str | None, bytes]:
        try:
            response = connection.getresponse()
            header, content = response.getheader("Inference-Header-Content-Length"), response.read()
        except HTTPException as error:
            connection.close()
            raise OSError(f"the server ended the connection: {error!r}") from error
        self._idle.append(connection)
        if response.status != 200:
            raise InferenceServerException(_error_of(content), status=str(response.status))
        return header, content


def _path(model: str, version: str) -> str:
    return f"/v2/models/{quote(model, safe='')}" + (f"/versions/{version}" if version else "")


def _error_of(content: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(content)["error"])
    return content.decode(errors="replace") or "no reason given"


def _executions(statistics: Mapping[str, Any]) -> ExecutionCounts:
    requests = executions = 0
    sizes: dict[int, int] = {}
    for version in statistics["model_stats"]:
        requests += int(version["inference_stats"]["success"].get("count", 0))
        executions += int(version.get("execution_count", 0))
        for batch in version.get("batch_stats", []):
            size = int(batch["batch_size"])
            sizes[size] = sizes.get(size, 0) + int(batch["compute_infer"].get("count", 0))
    return ExecutionCounts(requests, executions, sizes)


def _outputs(result: Any, request: InferRequest, outputs: Sequence[str]) -> Answer:
    names = [request.classes] if request.classes else outputs
    return {name: array for name in names if (array := result.as_numpy(name)) is not None}


def message_of(error: Exception) -> str:
    """What the server, or whoever raised it, says."""
    if isinstance(error, InferenceServerException):
        return (error.message() or str(error)).strip()
    return str(error) or type(error).__name__


@contextlib.contextmanager
def words_of_the_server() -> Iterator[None]:
    """Errors of the client library as `ServingError`."""
    try:
        yield
    except (InferenceServerException, OSError) as error:
        raise ServingError(message_of(error)) from error
