"""TensorFlow Serving's REST interface, as an ASGI application."""

import contextlib
import json
import re
import signal
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import anyio
import numpy as np
from anyio import to_process
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .examples import Examples
from .json_tensors import examples_of, inputs_of, outputs_as, parsed, shortest, signature_name
from .models import DEFAULT_SIGNATURE, METADATA_FIELD, Models
from .triton import Signature
from .wire.messages import message
from .wire.refusal import Refusal, StatusCode, invalid
from .wire.tensors import DTYPES, Tensor

__all__ = ["RestInterface"]

TIMEOUT_S = 30.0  # of a request, as TensorFlow Serving's --rest_api_timeout_in_ms
BODY_TIMEOUT_S = 60.0
LARGE_BYTES = 2**16  # of a document: it is milliseconds of work, and takes many times its size of memory
MOST_READERS = 4  # processes that read and write large documents, each made when it is first needed
HANG_UP = {"Connection": "close"}  # what is still to come of the body is not read
PREFIX = "/v1/"
POSTED = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)", re.IGNORECASE
)
GOT = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", re.IGNORECASE
)
MOST_VERSION = 2**63 - 1
HTTP_STATUS = {
    StatusCode.CANCELLED: 499,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.UNAUTHENTICATED: 401,
}  # others are 500
ModelSpec = message("tensorflow.serving.ModelSpec")
ClassificationRequest = message("tensorflow.serving.ClassificationRequest")
RegressionRequest = message("tensorflow.serving.RegressionRequest")
GetModelMetadataRequest = message("tensorflow.serving.GetModelMetadataRequest")
GetModelStatusRequest = message("tensorflow.serving.GetModelStatusRequest")
SignatureDefMap = message("tensorflow.serving.SignatureDefMap")
ModelVersionStatus = message("tensorflow.serving.ModelVersionStatus")
StatusProto = message("tensorflow.serving.StatusProto")
Answered = Callable[[Any, bytes], Awaitable[dict[str, Any] | bytes]]
R = TypeVar("R")


class _TooLarge(Exception):
    """A body above the limit."""


class RestInterface:
    """most_bytes: of a body, also once it is decompressed."""

    def __init__(self, models: Models, examples: Examples, most_bytes: int):
        self._models, self._examples, self._most_bytes = models, examples, most_bytes
        self._readers = anyio.CapacityLimiter(MOST_READERS)
        self._methods: dict[str, Answered] = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
            "metadata": self._metadata,
            "status": self._status,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
        try:
            if request.method == "OPTIONS":
                if not re.match("https?://", request.headers.get("origin", "")):
                    raise Refusal(
                        StatusCode.FAILED_PRECONDITION, "Origin header is missing in CORS preflight"
                    )
                return Response()
            if not path.lower().startswith(PREFIX):
                return _json({"error": "Not Found"}, 404)
            method, spec = _address(request.method, path)
            body = await self._body(request) if request.method == "POST" else b""
            with anyio.fail_after(TIMEOUT_S):
                return _json(await self._methods[method](spec, body))
        except Refusal as refusal:
            return _json({"error": refusal.message}, HTTP_STATUS.get(refusal.code, 500))
        except _TooLarge:
            told = f"the body has more than {self._most_bytes} bytes, the limit"
            return _json({"error": told}, 413, HANG_UP)
        except TimeoutError:
            return _json({"error": "Timed out"}, 504, HANG_UP)
        except ClientDisconnect:
            raise
        except Exception as error:
            print(f"tfserving: {request.method} {path[:200]!r}: {error!r}", file=sys.stderr, flush=True)
            return _json({"error": f"the gateway failed: {type(error).__name__}"}, 500)

    async def _body(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._most_bytes:
            raise _TooLarge
        body = bytearray()
        with anyio.fail_after(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._most_bytes:
                    raise _TooLarge
        if request.headers.get("content-encoding", "").lower() == "gzip":
            return self._decompressed(bytes(body))
        return bytes(body)

    def _decompressed(self, body: bytes) -> bytes:
        try:
            whole = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, self._most_bytes + 1)
        except zlib.error as error:
            raise invalid(f"the body is not gzip: {error}") from None
        if len(whole) > self._most_bytes:
            raise _TooLarge
        return whole

    async def _predict(self, spec: Any, body: bytes) -> bytes:
        """The document is read as the default signature has it; again, where it names another."""
        target = self._models.target_of(spec)
        absent = f'Serving signature name: "{target.signature}" not found in signature def'
        signatures: dict[str, Signature] = {}
        with contextlib.suppress(Refusal):  # raised below, unless the document cannot be read at all
            known = await self._models.signature(target, invalid(absent))
            signatures = {"": known, DEFAULT_SIGNATURE: known}
        name, read = await self._apart(len(body), _read_inputs, body, signatures)
        if read is None:
            spec.signature_name = name
            target = self._models.target_of(spec)
            absent = f'Serving signature name: "{target.signature}" not found in signature def'
            signatures = {name: await self._models.signature(target, invalid(absent))}
            name, read = await self._apart(len(body), _read_inputs, body, signatures)
        assert read  # by the signature that it names
        form, inputs = read
        outputs = (await self._models.infer(target, inputs, (), TIMEOUT_S)).outputs
        size = sum(len(tensor.raw) for tensor in outputs.values())
        return await self._apart(size, _written_outputs, form, outputs)

    async def _apart(self, size: int, function: Callable[..., R], *arguments: Any) -> R:
        """What `function` gives; for a large document by another process, so that all others go on here."""
        if size < LARGE_BYTES:
            return function(*arguments)
        try:
            made = await to_process.run_sync(
                _uninterrupted, function, *arguments, cancellable=True, limiter=self._readers
            )
        except anyio.BrokenWorkerProcess:
            told = "the process that reads and writes large documents ended; ask again, or send less"
            raise Refusal(StatusCode.UNAVAILABLE, told) from None
        if isinstance(made, Refusal):
            raise Refusal(made.code, made.message)
        return made

    async def _classify(self, spec: Any, body: bytes) -> dict[str, Any]:
        request = ClassificationRequest(model_spec=spec)
        await self._fill(request, body)
        response = await self._examples.classify(request, TIMEOUT_S)
        rows = response.result.classifications
        return {
            "results": [
                [
                    [one.label, score]
                    for one, score in zip(row.classes, _decimals(row.classes, "score"), strict=True)
                ]
                for row in rows
            ]
        }

    async def _fill(self, request: Any, body: bytes) -> None:
        name, examples = await self._apart(len(body), _read_examples, body)
        request.model_spec.signature_name = name
        request.input.ParseFromString(examples)

    async def _regress(self, spec: Any, body: bytes) -> dict[str, Any]:
        request = RegressionRequest(model_spec=spec)
        await self._fill(request, body)
        response = await self._examples.regress(request, TIMEOUT_S)
        return {"results": _decimals(response.result.regressions, "value")}

    async def _metadata(self, spec: Any, _: bytes) -> dict[str, Any]:
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=[METADATA_FIELD])
        response = await self._models.metadata(request)
        signatures = SignatureDefMap()
        response.metadata[METADATA_FIELD].Unpack(signatures)
        told = response.model_spec
        described = {
            name: {
                "inputs": {key: _tensor_info(info) for key, info in signature.inputs.items()},
                "outputs": {key: _tensor_info(info) for key, info in signature.outputs.items()},
                "method_name": signature.method_name,
            }
            for name, signature in signatures.signature_def.items()
        }
        return {
            "model_spec": {
                "name": told.name,
                "signature_name": told.signature_name,
                "version": str(told.version.value),
            },
            "metadata": {METADATA_FIELD: {METADATA_FIELD: described}},
        }

    async def _status(self, spec: Any, _: bytes) -> dict[str, Any]:
        response = await self._models.status(GetModelStatusRequest(model_spec=spec))
        return {
            "model_version_status": [
                {
                    "version": str(one.version),
                    "state": ModelVersionStatus.State.Name(one.state),
                    "status": {
                        "error_code": StatusProto.Code.Name(one.status.error_code),
                        "error_message": one.status.error_message,
                    },
                }
                for one in response.model_version_status
            ]
        }


def _address(http_method: str, path: str) -> tuple[str, Any]:
    """What is asked, and the ModelSpec. Raises `Refusal`."""
    forms = {"POST": POSTED, "GET": GOT}
    found = forms[http_method].fullmatch(path) if http_method in forms else None
    if not found:
        raise invalid(f"Malformed request: {http_method} {path}")
    name, version, label, method = found.groups()
    if not name:
        raise invalid("Missing model name in request.")
    spec = ModelSpec()
    try:
        spec.name = unquote_to_bytes(name).decode()
        if label:
            spec.version_label = unquote_to_bytes(label).decode()
    except UnicodeDecodeError:
        raise invalid(f"Failed to decode model name:{name}") from None
    if version:
        if len(version) > 19 or int(version) > MOST_VERSION:
            raise invalid(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    return (method or "status").lower(), spec


def _uninterrupted(function: Callable[..., R], *arguments: Any) -> R | Refusal:
    """In another process. Ctrl-C reaches it, too, and the gateway ends only when this is answered.

    A refusal is returned: raised by anyio, it would keep the document in a circle of references.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return function(*arguments)
    except Refusal as refusal:
        return refusal


def _read_inputs(
    body: bytes, signatures: Mapping[str, Signature]
) -> tuple[str, tuple[str, dict[str, Tensor]] | None]:
    """The name of the document's signature, and what `inputs_of` gives, if that is one of `signatures`."""
    document = parsed(body)
    name = signature_name(document)
    return name, inputs_of(document, signatures[name]) if name in signatures else None


def _written_outputs(form: str, outputs: Mapping[str, Tensor]) -> bytes:
    return json.dumps(outputs_as(form, outputs)).encode()


def _read_examples(body: bytes) -> tuple[str, bytes]:
    """The name of the document's signature, and an Input as bytes."""
    document = parsed(body)
    return signature_name(document), examples_of(document).SerializeToString()


def _tensor_info(info: Any) -> dict[str, Any]:
    dims = [{"size": str(dim.size), "name": dim.name} for dim in info.tensor_shape.dim]
    return {
        "dtype": DTYPES[info.dtype].name,
        "tensor_shape": {"dim": dims, "unknown_rank": info.tensor_shape.unknown_rank},
        "name": info.name,
    }


def _decimals(messages: Iterable[Any], field: str) -> list[float]:
    """That field of each, a float."""
    found: list[float] = shortest(np.array([getattr(one, field) for one in messages], np.float32)).tolist()
    return found


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        content if isinstance(content, bytes) else json.dumps(content),
        status,
        headers,
        media_type="application/json",
    )
