"""How long the steps of a model took, for requests that are traced: spans for the launcher's status port.

tritonserver tells of its queue and of the whole execution; what happens within, only the model knows. Where
the launcher keeps no traces nothing is done. Names and times are sent, as OTLP over HTTP in JSON, and nothing
of the request.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["StepSpans", "log_failures"]

VARIABLE = "TRITON_VISION_TRACES"  # set by the launcher: where spans are sent
SERVICE = "triton-vision-model"
MOST_WAITING = 256  # spans that are not sent yet; further ones are dropped
TIMEOUT_S = 2.0


class StepSpans:
    """url: where they are sent; without one nothing is, and `traceparent` is always ""."""

    def __init__(self, model: str, url: str | None = None) -> None:
        self._model = model
        self._url = url or os.environ.get(VARIABLE, "")
        self._waiting: queue.Queue[bytes] = queue.Queue(MOST_WAITING)
        if self._url:
            threading.Thread(target=self._send, daemon=True).start()

    def traceparent(self, request: Any) -> str:
        """Of a request of Triton's that is traced; "" of any other."""
        context = request.trace().get_context() if self._url else None
        return str(json.loads(context).get("traceparent", "")) if context else ""

    def tell(self, traceparent: str, steps: Iterable[tuple[str, int, int]]) -> None:
        """steps: name, and when it began and ended, in nanoseconds since 1970. Costs nothing for ""."""
        if not traceparent:
            return
        _, trace, parent, _ = traceparent.split("-")
        ids = {"traceId": trace, "parentSpanId": parent}
        spans = [{**ids, "spanId": secrets.token_hex(8), **_span(*step)} for step in steps]
        name = {"key": "triton.model_name", "value": {"stringValue": self._model}}
        told = [{"spans": [{**span, "attributes": [name]} for span in spans]}]
        service = {"key": "service.name", "value": {"stringValue": SERVICE}}
        document = {"resourceSpans": [{"resource": {"attributes": [service]}, "scopeSpans": told}]}
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(json.dumps(document).encode())

    def _send(self) -> None:
        while True:
            body = self._waiting.get()
            request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
            with contextlib.suppress(OSError, ValueError):  # nobody is there: a trace without steps
                urllib.request.urlopen(request, timeout=TIMEOUT_S).close()


def log_failures(log: Callable[[str], None], requests: Sequence[Any], responses: Sequence[Any]) -> None:
    """A line in the server's log for each request that failed and has an id, by which others tell of it."""
    for request, response in zip(requests, responses, strict=True):
        with contextlib.suppress(UnicodeDecodeError):  # HTTP lets ids through that are no text
            if response.has_error() and (name := request.request_id()):
                log(f"[request id: {name}] {response.error().message()}")


def _span(name: str, start_ns: int, end_ns: int) -> Mapping[str, str]:
    return {"name": name, "startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(end_ns)}
