"""Standard error as JSON lines: what tritonserver, its models' processes and the launcher write there.

One object per line: time, level, source, message, and request_id where the line names one. Lines that are
JSON already, as those of the gateway's access log, pass as they are.
"""

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone

__all__ = ["as_json", "standard_error_in_json"]

LEVELS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL"}
TRITON_LINE = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w.-]+:\d+)\] (.*)", re.DOTALL)
OUR_LINE = re.compile(r"(?:triton-vision: (?:\d\d:\d\d:\d\d )?|server: )(.*)", re.DOTALL)
REQUEST_ID = re.compile(r"\[request id: ([^\]<>]{1,128})\]")
LONGEST_LINE_BYTES = 2**16


def as_json(line: str, time: datetime) -> str:
    """One line of the log, without its end, as a JSON object; time: when it was written."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            return json.dumps(json.loads(line))
    level, source, message, place = "INFO", "process", line, ""
    if found := TRITON_LINE.fullmatch(line):
        level, place, message = LEVELS[found[1]], found[2], found[3]
        source = "tritonserver"
        with contextlib.suppress(ValueError):  # it quotes what it logs, so that a line stays one
            message = str(json.loads(message))
    elif found := OUR_LINE.fullmatch(line):
        source, message = "launcher", found[1]
    entry = {"time": time.isoformat(timespec="milliseconds"), "level": level, "source": source}
    if place:
        entry["at"] = place
    if found := REQUEST_ID.search(message):
        entry["request_id"] = found[1]
    return json.dumps({**entry, "message": message})


@contextlib.contextmanager
def standard_error_in_json() -> Iterator[None]:
    """Within, what is written to this process's standard error, or a child's, comes out as JSON lines."""
    sys.stderr.flush()
    real = os.dup(2)
    read, write = os.pipe()
    os.dup2(write, 2)
    os.close(write)
    thread = threading.Thread(target=_copy, args=(read, real), daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(real, 2)  # the last writer of the pipe is gone, unless a child lives on
        thread.join(timeout=5)
        os.close(real)


def _copy(read: int, real: int) -> None:
    with os.fdopen(read, "rb") as lines:
        while line := lines.readline(LONGEST_LINE_BYTES):
            text = line.decode(errors="replace").rstrip("\r\n")
            with contextlib.suppress(OSError):  # nobody reads any more, or the disk is full for a while
                if text:
                    os.write(real, f"{as_json(text, datetime.now(timezone.utc))}\n".encode())
