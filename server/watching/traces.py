"""Spans of requests, as OpenTelemetry's OTLP over HTTP brings them in JSON, kept in memory for a while.

    POST /v1/traces      of the status port: from tritonserver, from models' steps, from clients
    GET /traces          the ids that are kept, the newest last
    GET /traces/ID       {"trace_id": ..., "spans": [...], "gateway_log": "the file with the gateway's part"}

Kept of a span are its names, times and a few attributes, all short: never what a request carried. What comes
is not trusted: anybody who reaches the port may send.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["MOST_BYTES", "TraceStore"]

MOST_BYTES = 2**20  # of a document
MOST_TRACES, MOST_SPANS, MOST_EVENTS = 1000, 128, 16
MOST_SPANS_OF_ALL = 20_000  # some 40 MB at worst
LATEST_NS = 2**63
LONGEST_TEXT = 128
TRACE_ID, SPAN_ID = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{16}")
ATTRIBUTES = {
    "triton.model_name": "model",
    "triton.model_version": "version",
    "triton.request_id": "request_id",
    "vision.attempt": "attempt",
    "vision.url": "url",
    "error.type": "error",
}


class TraceStore:
    """The newest traces: `MOST_TRACES` at most, of each the first `MOST_SPANS` spans; from any thread.

    gateway_log: the access log that has the gateway's part, where there is one.
    """

    def __init__(self, gateway_log: Path | None = None) -> None:
        self.gateway_log = str(gateway_log.absolute()) if gateway_log else ""
        self._traces: OrderedDict[str, dict[str, dict[str, Any]]] = OrderedDict()
        self._count = 0
        self._lock = threading.Lock()

    def take(self, document: bytes) -> int:
        """Keep the spans of an OTLP document in JSON; how many. Raises `ValueError` for what is none."""
        try:
            spans = list(_spans(json.loads(document)))
        except (AttributeError, KeyError, OverflowError, TypeError, RecursionError) as error:
            raise ValueError(f"no OTLP traces in JSON: {error}") from None
        with self._lock:
            for trace, span in spans:
                kept = self._traces.setdefault(trace, {})
                if len(kept) < MOST_SPANS:
                    self._count += span["span_id"] not in kept
                    kept[span["span_id"]] = span
                self._traces.move_to_end(trace)
            while len(self._traces) > MOST_TRACES or self._count > MOST_SPANS_OF_ALL:
                self._count -= len(self._traces.popitem(last=False)[1])
        return len(spans)

    def ids(self) -> list[str]:
        """Those that are kept, the one that was told of last at the end."""
        with self._lock:
            return list(self._traces)

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """In order of their beginnings; none of a trace that is not known."""
        with self._lock:
            kept = list(self._traces.get(trace_id, {}).values())
        return sorted(kept, key=lambda span: (span["start_ns"], -span["end_ns"]))


def _spans(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with its trace's id. Raises `ValueError` and others for what is not as OTLP says."""
    for resource in document["resourceSpans"]:
        service = _attributes(resource.get("resource", {})).get("service.name", "")
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                parent = span.get("parentSpanId") or ""
                yield (
                    _checked(TRACE_ID, span["traceId"]),
                    {
                        "span_id": _checked(SPAN_ID, span["spanId"]),
                        "parent_id": _checked(SPAN_ID, parent) if parent else "",
                        "service": service,
                        "name": _short(span.get("name", "")),
                        "start_ns": _time(span["startTimeUnixNano"]),
                        "end_ns": _time(span["endTimeUnixNano"]),
                        "events": {
                            _short(event.get("name", "")): _time(event["timeUnixNano"])
                            for event in span.get("events", ())[:MOST_EVENTS]
                        },
                        **{
                            ours: value
                            for name, value in _attributes(span).items()
                            if (ours := ATTRIBUTES.get(name))
                        },
                    },
                )


def _attributes(owner: dict[str, Any]) -> dict[str, str]:
    pairs = {pair["key"]: pair["value"] for pair in owner.get("attributes", ())[: 2 * MOST_EVENTS]}
    return {
        name: _short(value.get("stringValue", value.get("intValue", "")))
        for name, value in pairs.items()
        if name == "service.name" or name in ATTRIBUTES
    }


def _time(told: Any) -> int:
    """Nanoseconds since 1970. Raises `ValueError` for what is no such number."""
    if not 0 <= (time_ns := int(told)) < LATEST_NS:
        raise ValueError("no time")
    return time_ns


def _short(text: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text)[:LONGEST_TEXT])


def _checked(pattern: re.Pattern[str], text: object) -> str:
    """Raises `ValueError` where it is no such id."""
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"no id: {_short(text)!r}")
    return text
