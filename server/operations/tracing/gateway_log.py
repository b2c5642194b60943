"""The gateway's part of a trace, from its access log: a JSON object per line, with its traceparent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import ServerError

__all__ = ["gateway_spans"]

TIMES = ("receive_ms", "queue_ms", "connect_ms", "server_ms")
NOTHING = ("", "-", "-1")  # as haproxy writes what is not there
TOLD = ("tenant", "status", "grpc_status", "server", "retries", "request_id", "model")


def gateway_spans(log: Path, trace_id: str) -> list[dict[str, Any]]:
    """A span for each line of this trace. Raises `ServerError` for a log that cannot be read."""
    try:
        with open(log, encoding="utf-8", errors="replace") as lines:
            return list(_spans(lines, trace_id))
    except OSError as error:
        raise ServerError(f"the gateway's log {log} cannot be read: {error.strerror}") from None


def _spans(lines: Iterator[str], trace_id: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines):
        if trace_id not in line:
            continue
        try:  # haproxy's own words stand before the object where it writes to the launcher's standard error
            entry = json.loads(line[line.index("{") :])
            _, named, parent, _ = entry["traceparent"].split("-")
            start_ns = round(float(entry["time"]) * 1e9)
            span = {
                "span_id": f"gateway-{number}",
                "parent_id": parent,
                "service": "gateway",
                "name": f"{entry.get('method', '')} {entry.get('endpoint', '')}".strip(),
                "start_ns": start_ns,
                "end_ns": start_ns + round(float(entry["total_ms"]) * 1e6),
                **{name: entry[name] for name in (*TOLD, *TIMES) if str(entry.get(name, "")) not in NOTHING},
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a line that was cut, or of somebody else
        if named == trace_id:
            yield span
