"""Spans of what a client asks, as OpenTelemetry's OTLP over HTTP takes them in JSON.

Names and times, and never what an image shows. The trace goes on at the server, which is told its id in W3C's
`traceparent`. No library: six fields of a document are no reason for one, and an application that has
OpenTelemetry gives its own traceparent as `parent`.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import threading
import time
import urllib.request
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from .identity import log

__all__ = ["Span", "Tracer", "new_span_id", "new_trace_id"]

SERVICE = "triton-vision-client"
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
MOST_KEPT = 10_000  # spans
MOST_WAITING = 1_000  # documents that are not sent yet; further ones are dropped
TIMEOUT_S = 2.0
PAUSE_S = 2.0  # after a failure, in which nothing is sent: nobody waits for each of what is waiting to fail


@dataclass(frozen=True)
class Span:
    """Something that took time, in nanoseconds since 1970; parent_id "" where it is the whole."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    told: dict[str, str] = field(default_factory=dict)

    def as_otlp(self) -> dict[str, object]:
        """As OTLP has it in JSON."""
        return {
            "name": self.name,
            "traceId": self.trace_id,
            "spanId": self.span_id,
            "parentSpanId": self.parent_id,
            "startTimeUnixNano": str(self.start_ns),
            "endTimeUnixNano": str(self.end_ns),
            "attributes": [{"key": key, "value": {"stringValue": text}} for key, text in self.told.items()],
        }


class Tracer:
    """Takes the spans of a client's questions, for `VisionClient(trace=...)`; from any thread.

        tracer = Tracer("http://127.0.0.1:8003")
        with VisionClient(trace=tracer) as client:
            client.classify("cat.jpg")
        print(tracer.ids)

    url: where they are sent: the status port of a server that was started with --trace, or any collector of
        OTLP over HTTP that takes JSON. None: nowhere.
    parent: a traceparent ("00-...") of the application's own trace that the questions belong to. Without one
        each question, an image, is a trace of its own, whose id is also the request's.

    ids: of the traces, in the order in which they ended. spans: the last of them. Raises ValueError for a
    parent that is none.
    """

    def __init__(self, url: str | None = None, parent: str | None = None) -> None:
        found = TRACEPARENT.fullmatch(parent) if parent else None
        if parent and not found:
            raise ValueError(f"{parent!r} is no traceparent; one is 00-<32 hex digits>-<16>-<2>")
        self.parent: tuple[str, str] | None = (found[1], found[2]) if found else None
        self.ids: list[str] = []
        self.spans: deque[Span] = deque(maxlen=MOST_KEPT)
        self._url = url.rstrip("/") if url else None
        self._lock = threading.Lock()
        self._sender: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()
        self._failed = False
        self._pause_until = -math.inf

    def take(self, spans: list[Span]) -> None:
        """Those of one question, which are sent by a thread of their own."""
        with self._lock:
            self.spans += spans
            if (trace := spans[0].trace_id) not in self.ids[-1:]:
                self.ids.append(trace)
            while self._waiting and self._waiting[0].done():
                self._waiting.popleft()
            if self._url and len(self._waiting) < MOST_WAITING:
                self._sender = self._sender or ThreadPoolExecutor(1, thread_name_prefix="triton-vision-trace")
                self._waiting.append(self._sender.submit(self._send, spans))

    def flush(self) -> None:
        """Wait until what was taken is sent, or could not be; the thread ends."""
        with self._lock:
            sender, self._sender = self._sender, None
        if sender:
            sender.shutdown()

    def _send(self, spans: list[Span]) -> None:
        if time.monotonic() < self._pause_until:
            return
        service = {"key": "service.name", "value": {"stringValue": SERVICE}}
        told = [{"spans": [span.as_otlp() for span in spans]}]
        document = {"resourceSpans": [{"resource": {"attributes": [service]}, "scopeSpans": told}]}
        headers = {"Content-Type": "application/json"}
        try:
            body = json.dumps(document).encode()
            request = urllib.request.Request(f"{self._url}/v1/traces", body, headers)
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
        except (OSError, ValueError) as error:
            if not self._failed:  # told once
                log.warning("spans cannot be sent to %s: %s", self._url, error)
            self._failed = True
            self._pause_until = time.monotonic() + PAUSE_S


def new_trace_id() -> str:
    """32 hex digits."""
    return secrets.token_hex(16)


def new_span_id() -> str:
    """16 hex digits."""
    return secrets.token_hex(8)
