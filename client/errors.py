"""The errors that a caller of the client can meet.

VisionError
├── ServerUnavailable     nothing answers at the address, it is no Triton, or one that stops or restarts
├── ServerOverloaded      the server refused: its queue is full, or the request waited too long in it
├── RequestTimeout        no answer within `timeout_s`
├── AccessDenied          a header or a certificate is missing or wrong
├── ModelNotFound         the server has no model (or version) of this name
│   └── ModelNotReady     the model is there but is loading, was unloaded, or failed to load
├── InvalidImage          this image cannot be used: missing, empty, not an image, wrong type or shape
├── StreamLost            the server has lost the state that a text stream has there, or ended with it
├── InvalidInput          this request cannot be served as asked: wrong option, wrong kind of model
└── InferenceFailed       the model failed while it was running

`ServerUnavailable`, `ServerOverloaded` and `ModelNotReady` are retried before they are raised;
`conversation/retrying.py` says how often, for how long, and how much all questions of a client may together.
`InvalidImage`, `ServerOverloaded`, `RequestTimeout`, `StreamLost` and `InferenceFailed` concern one image;
the others would meet every image alike. The steps of a text stream are never retried: the state that the
server keeps for it would take the same strip twice.
"""

from __future__ import annotations

import re

from .common.identity import HOW_TO_START

__all__ = [
    "AccessDenied",
    "InferenceFailed",
    "InvalidImage",
    "InvalidInput",
    "ModelNotFound",
    "ModelNotReady",
    "ProcessDied",
    "RegionInUse",
    "RequestTimeout",
    "ServerOverloaded",
    "ServerUnavailable",
    "StreamLost",
    "VisionError",
    "from_server",
    "given_up",
    "gone",
    "no_triton",
    "not_ready",
    "stopping",
    "unavailable",
]


class VisionError(Exception):
    """Base of all errors of the client.

    `source` names the image that failed ("photos/cat.jpg", "image 3") and `index` its place among those
    given, counted from 0; both are None where the error concerns no single image. `line` is the number of the
    line, counted from 1, if it concerns one line of a page. `request_id` is that of the request, where one
    was sent: the gateway's log and the server's traces and messages have it, too.
    """

    source: str | None = None
    request_id: str | None = None
    index: int | None = None
    line: int | None = None

    def about(self, source: str, index: int | None, line: int | None = None) -> VisionError:
        """The same error, told which image it concerns; `index` is counted from 0, `line` from 1."""
        self.source, self.index, self.line = source, index, line
        return self

    @property
    def message(self) -> str:
        """Without the source, which `str` puts in front."""
        return super().__str__()

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line else ""
        told = f"{self.message} (request {self.request_id})" if self._names_request else self.message
        return f"{self.source}{line}: {told}" if self.source else told

    @property
    def _names_request(self) -> bool:
        """Whether what happened to the request on its way, or on the server, is to be looked for there."""
        looked_for = (ServerUnavailable, ServerOverloaded, RequestTimeout, InferenceFailed)
        return self.request_id is not None and isinstance(self, looked_for)


class ServerUnavailable(VisionError):
    """Nothing answers at the address, it is no Triton, or one that stops or restarts. Retried."""

    detail: str = ""  # what was seen: "Connection refused"


class ServerOverloaded(VisionError):
    """The server refused: its queue is full, or the request waited too long in it.

    Retried if `retry_after_s` is known: 0 of Triton's own queue, a gateway's Retry-After, else None.
    """

    retry_after_s: float | None = None


class RequestTimeout(VisionError):
    """No answer within `timeout_s`."""


class AccessDenied(VisionError):
    """A header or a certificate is missing or wrong, or the server keeps this to itself."""


class ModelNotFound(VisionError):
    """The server has no model, or version, of this name; the message lists those that are ready."""


class ModelNotReady(ModelNotFound):
    """The model is there but is loading, was unloaded, or failed to load. Retried."""


class InvalidImage(VisionError):
    """This image cannot be used: missing, empty, undecodable, or of the wrong type or shape."""


class StreamLost(VisionError):
    """The server has lost the state that a text stream has there, or ended with it."""


class InvalidInput(VisionError):
    """This request cannot be served as asked: an option out of range, or a model of another kind."""


class InferenceFailed(VisionError):
    """The model failed while it was running; the server's log says more. Retried if its process died."""


class RegionInUse(InferenceFailed):
    """Shared memory that the server still reads, for a request that was given up; callers never see it."""


class ProcessDied(InferenceFailed):
    """A Python process of the model has ended; whoever watches over the server starts another."""


# What Triton 24.10 answers, seen over gRPC and over HTTP. A full queue and a stopping server share one
# status, as do an undecodable image and a crash of the model, so the message has to be read as well.
_STOPPING = (
    "Server exiting",
    "Server not ready",
    "Server is stopping",
    "no server is ready",  # a gateway's
    "has stopped accepting new inference",
)
_BY_STATUS = {
    "StatusCode.UNAVAILABLE": ServerUnavailable,
    "502": ServerUnavailable,
    "503": ServerUnavailable,
    "504": ServerUnavailable,
    "StatusCode.DEADLINE_EXCEEDED": RequestTimeout,
    "StatusCode.NOT_FOUND": ModelNotFound,
    "404": ModelNotFound,
    "StatusCode.INVALID_ARGUMENT": InvalidInput,
    "400": InvalidInput,
    "StatusCode.UNAUTHENTICATED": AccessDenied,
    "StatusCode.PERMISSION_DENIED": AccessDenied,
    "401": AccessDenied,
    "403": AccessDenied,
    "StatusCode.RESOURCE_EXHAUSTED": ServerOverloaded,
    "429": ServerOverloaded,
    "411": InvalidInput,
    "413": InvalidInput,
    "415": InvalidInput,
    "431": InvalidInput,
}
_OF_A_TENANT = ("requests per second than this tenant", "requests at a time than this tenant")  # a gateway's
_TOO_LARGE = re.compile(r"\blarger than\b")  # a gateway's, and gRPC's own, which share a status with overload
_RETRY_AFTER_S = 1.0  # which a gateway sends with these, and tritonclient does not show
_REQUEST_ID = re.compile(r"^\[request id: [^\]]*\] ")
_BAD_IMAGE = re.compile(r"image \d+ of \d+: (.*)", re.DOTALL)


def unavailable(url: str, detail: str) -> ServerUnavailable:
    """For an address at which no Triton answers; detail: what was seen there, "Connection refused"."""
    return _unavailable(
        f"no Triton server answers at {url} ({detail}). Is it running? {HOW_TO_START or 'Say'} where it is "
        "with --url or TRITON_VISION_URL (usually port 8001 for gRPC, 8000 for HTTP).",
        detail,
    )


def no_triton(url: str) -> ServerUnavailable:
    """For an address where something answers that is no Triton."""
    return unavailable(url, "something else answered")


def stopping(url: str, detail: str) -> ServerUnavailable:
    """For a server that answers, but takes no requests yet or any more; detail: its own words."""
    return _unavailable(
        f"the server at {url} is stopping, or not yet ready ({detail}). Try again soon.", detail
    )


def gone(url: str, detail: str, waited_s: float) -> ServerUnavailable:
    """For a server that did answer before; it has been waited for `waited_s` seconds."""
    waited = f"; it was asked again for {waited_s:.0f} s" if waited_s >= 1 else ""
    return _unavailable(
        f"the server at {url} answered before and has not come back ({detail}){waited}. Is it stopped, or "
        "being restarted? Allow more with --patience or patience_s.",
        detail,
    )


def given_up() -> InferenceFailed:
    """For what was under way, or was still to be asked, when the client was closed."""
    return InferenceFailed("given up, because the client was closed.")


def not_ready(model: str) -> ModelNotReady:
    """For a model that the server knows and has no version of, where nothing says why."""
    return ModelNotReady(
        f"model '{model}' has no version that is ready: it is being loaded, was unloaded, or failed to load. "
        "The server's log says why."
    )


def _unavailable(message: str, detail: str) -> ServerUnavailable:
    error = ServerUnavailable(message)
    error.detail = detail
    return error


def _overloaded(message: str, retry_after_s: float) -> ServerOverloaded:
    error = ServerOverloaded(message)
    error.retry_after_s = retry_after_s
    return error


def from_server(status: str | None, message: str | None, url: str) -> VisionError:
    """The error for a status and message of tritonclient's InferenceServerException."""
    message = _REQUEST_ID.sub("", message or "no message")
    if bad_image := _BAD_IMAGE.search(message):
        return InvalidImage(bad_image[1])
    return _by_message(message, status, url) or _by_status(message, status, url)


def _by_message(message: str, status: str | None, url: str) -> VisionError | None:
    if "maximum queue size" in message:
        return _overloaded(
            "the server's queue is full. Send fewer at a time (--concurrency), allow more retries, or add "
            "model instances or servers.",
            0.0,
        )
    if "timeout expired" in message:
        return _overloaded(
            "the request waited in the server's queue for longer than it may. Send fewer at a time "
            "(--concurrency), allow more time, or add model instances or servers.",
            0.0,
        )
    if any(said in message for said in _OF_A_TENANT):
        return _overloaded(
            f"{message}. Send fewer at a time (--concurrency), allow more retries, or ask the operator of "
            f"{url} for more.",
            _RETRY_AFTER_S,
        )
    if "servers are busy" in message:
        return _overloaded(
            "the gateway's servers are busy. Send fewer at a time (--concurrency), allow more retries, or "
            "add servers.",
            _RETRY_AFTER_S,
        )
    if status == "StatusCode.RESOURCE_EXHAUSTED" and _TOO_LARGE.search(message):
        return InvalidInput(f"{message}. Send a smaller image, or fewer in one request.")
    if any(said in message for said in _STOPPING):
        return stopping(url, message)
    if "START flag" in message:
        return StreamLost(
            "the server no longer knows this stream. Nothing was sent for longer than the model waits "
            "(max_sequence_idle_microseconds in its configuration), or the model was loaded anew. "
            "Begin another stream and send the line again from its start."
        )
    if "find shared memory region" in message:  # a server that was restarted has forgotten it
        return unavailable(url, message)
    if "it is currently in use" in message:
        return RegionInUse(message)
    if "shared memory is disabled" in message:  # from release 26.04 on, by default
        return AccessDenied(message)
    if "open shared memory region" in message:
        return InvalidInput(
            f"{message}. Shared memory needs client and server on one host that share /dev/shm, and a server "
            "that may open what this user makes there (a container: ipc: host and user 1000, "
            "docs/how-to/deploy.md). Leave shared_memory (--shared-memory) off to send the bytes instead."
        )
    if "is not healthy" in message:  # "Stub process 'NAME' is not healthy."
        return ProcessDied(
            f"a process of the model has died ({message.rstrip('.')}). The launcher replaces it within "
            "seconds; the server's log says more. If it happens again, with this image, tell its makers."
        )
    if message.startswith("requested model") and message.endswith("is not available"):  # of its statistics
        return ModelNotFound(message)
    if "no available versions" in message or "not ready" in message:
        return ModelNotReady(message)
    if "restricted" in message and "expecting header" in message:  # gRPC: UNAVAILABLE, HTTP: 403
        return AccessDenied(f"{message}. Pass it with --header or VisionClient(headers=...).")
    if "decoding the response" in message:
        return unavailable(url, f"something else answered, with status {status}")
    return None


def _by_status(message: str, status: str | None, url: str) -> VisionError:
    if status == "StatusCode.CANCELLED":  # "CANCELLED" where a stopping server let go of it; else we hung up
        return stopping(url, "it let go of the request") if message == "CANCELLED" else given_up()
    kind = _BY_STATUS.get(status or "", InferenceFailed)
    if kind is ServerUnavailable:
        return unavailable(url, message)
    if kind is RequestTimeout:
        return RequestTimeout(f"no answer from {url} in time. Allow more with --timeout or timeout_s.")
    if kind is AccessDenied:
        return AccessDenied(
            f"{url} refused: {message}. Check the API key (api_key, --api-key-file, $TRITON_VISION_API_KEY), "
            "--header, or the client certificate."
        )
    if kind is InferenceFailed:
        return InferenceFailed(f"the model failed: {message}. The server's log says more.")
    return kind(message)
