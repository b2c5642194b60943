"""What the gateway asks of Triton: to infer, which tensors a model has, which versions are served.

Triton's answers come as they are; its errors come as TensorFlow Serving's.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import grpc
from tritonclient.grpc import service_pb2 as triton_messages
from tritonclient.grpc import service_pb2_grpc as triton_services

from .wire.refusal import Refusal, StatusCode
from .wire.tensors import Dtype, Tensor, by_datatype

__all__ = ["Answer", "Signature", "TensorSpec", "Triton", "servable"]

FRESH_S = 5.0  # what is known of a model is asked again
METADATA_TIMEOUT_S = 10.0
MOST_MODELS = 1000  # that something is known of at a time
LONGEST_NAME = 255  # of a folder, which a model is
ID = "[request id: <id_unknown>] "
# tritonserver's words where a model or version is not there, or not loaded (2.51)
NOT_SERVED = (
    "Request for unknown model",
    "is not at ready state",
    "is not found",
    "has no available versions",
)
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
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


class Answer(NamedTuple):
    """Of one inference."""

    version: int
    outputs: dict[str, Tensor]


def servable(model: str, version: int | None) -> str:
    """As TensorFlow Serving names what was asked for."""
    return f"Latest({model})" if version is None else f"Specific({model}, {version})"


class Triton:
    """The Triton at `url` (host:port of its gRPC); made, used and closed in one event loop."""

    def __init__(self, url: str):
        self._url = url
        self._channel = grpc.aio.insecure_channel(url, options=OPTIONS)
        self._service = triton_services.GRPCInferenceServiceStub(self._channel)
        self._signatures: dict[tuple[str, int | None], tuple[float, Signature]] = {}

    async def close(self) -> None:
        """End calls under way."""
        await self._channel.close()

    async def infer(
        self,
        model: str,
        version: int | None,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
        classes: int = 0,
    ) -> Answer:
        """outputs: names; none for all. classes: ask for so many labels, no values. Raises `Refusal`."""
        _check_name(model, version)
        request = triton_messages.ModelInferRequest(
            model_name=model, model_version="" if version is None else str(version)
        )
        for name, (dtype, shape, raw) in inputs.items():
            request.inputs.add(name=name, datatype=dtype.datatype, shape=shape)
            request.raw_input_contents.append(raw)
        for name in outputs:
            asked = request.outputs.add(name=name)
            if classes:
                asked.parameters["classification"].int64_param = classes
        try:
            told = await self._service.ModelInfer(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            self._signatures.pop((model, version), None)
            raise self._refusal(error, model, version) from None
        values = {
            output.name: Tensor(by_datatype(output.datatype), tuple(output.shape), raw)
            for output, raw in zip(told.outputs, told.raw_output_contents, strict=True)
        }
        return Answer(int(told.model_version), values)

    async def signature(self, model: str, version: int | None = None) -> Signature:
        """Up to `FRESH_S` seconds old. Raises `Refusal` for what is not served."""
        key, now = (model, version), time.monotonic()
        asked, known = self._signatures.get(key, (-FRESH_S, None))
        if known and now - asked < FRESH_S:
            return known
        _check_name(model, version)
        request = triton_messages.ModelMetadataRequest(
            name=model, version="" if version is None else str(version)
        )
        try:
            told = await self._service.ModelMetadata(request, timeout=METADATA_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error, model, version) from None
        versions = tuple(sorted(map(int, told.versions)))
        served = max(versions, default=0) if version is None else version
        found = Signature(served, versions, _specs(told.inputs), _specs(told.outputs))
        if len(self._signatures) >= MOST_MODELS:
            self._signatures.clear()
        self._signatures[key] = (now, found)
        return found

    def _refusal(self, error: grpc.aio.AioRpcError, model: str, version: int | None) -> Refusal:
        code, details = error.code(), (error.details() or "").removeprefix(ID)
        if any(words in details for words in NOT_SERVED):
            return _not_served(model, version)
        if code == StatusCode.UNAVAILABLE and ("connect" in details or "Socket closed" in details):
            return Refusal(code, f"Triton is not reached at {self._url}; it may be starting again")
        return Refusal(code, details)


def _check_name(model: str, version: int | None) -> None:
    """tritonserver repeats a name in a header, where one of megabytes does not fit, and cuts it at a NUL."""
    if len(model) > LONGEST_NAME or not model.isprintable():
        raise _not_served(model, version)


def _not_served(model: str, version: int | None) -> Refusal:
    return Refusal(StatusCode.NOT_FOUND, f"Servable not found for request: {servable(model, version)}")


def _specs(tensors: Any) -> dict[str, TensorSpec]:
    return {tensor.name: TensorSpec(by_datatype(tensor.datatype), tuple(tensor.shape)) for tensor in tensors}
