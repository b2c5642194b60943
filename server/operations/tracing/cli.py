"""The command `trace`: where the time of one request went, from the client to the steps of the model."""

import argparse
import http.client
import json
import re
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from ...arguments import seconds
from ...environment.place import COMMAND
from ...errors import NoAnswerError, ServerError
from .gateway_log import gateway_spans
from .tree import NO_LOG, PARTS, SERVER, Node, missing_parts, tree_of

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = """\
Show one request as a tree, with the time that each part took: the client, the gateway, tritonserver with its
queue, the model, its steps. The request carries a W3C traceparent, as `client ... --trace` sends one, and the
server was started with --trace."""
EPILOG = "exit status: 0 shown, 1 not known, or nothing answers, 2 wrong usage"
ID = re.compile(r"(?:00-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?")
WAIT_S = 3.0  # tritonserver tells of its spans half a second later
LOOK_S = 0.2
BAR = 24  # characters
TOLD_LINE = ("tenant", "status", "grpc_status", "server", "queue_ms", "retries", "attempt", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `trace`."""
    parser.add_argument(
        "id",
        nargs="?",
        type=trace_id,
        metavar="ID",
        help="32 hex digits, or a traceparent; none: the newest",
    )
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:8003",
        help="the launcher's status port (default: %(default)s)",
    )
    parser.add_argument(
        "--gateway-log",
        type=Path,
        metavar="FILE",
        help="the gateway's access log, in JSON (default: that of the server, if it has one)",
    )
    parser.add_argument(
        "--wait",
        type=seconds,
        default=WAIT_S,
        metavar="SECONDS",
        help="for what tritonserver tells, which it does a little later (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="as a JSON object")


def trace_id(text: str) -> str:
    """Of an id or a traceparent. Raises `ArgumentTypeError`; argparse tells."""
    if not (found := ID.fullmatch(text.strip().lower())):
        raise argparse.ArgumentTypeError(f"{text!r} is no id of a trace; it has 32 hex digits")
    return found[1]


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        trace, spans, log = asked(arguments)
        gateway = NO_LOG
        if log:
            spans += gateway_spans(log, trace)
            gateway = f"no line of {log} has it"
        if not spans:
            raise ServerError(
                f"nothing is known of trace {trace}: it is not among the last thousand, or its request "
                "carried no traceparent"
            )
    except ServerError as error:
        print(f"trace: {error}", file=sys.stderr)
        return 1
    roots = tree_of(spans)
    missing = missing_parts(roots, gateway)
    print(
        json.dumps(as_object(trace, roots, missing), indent=1)
        if arguments.json
        else as_text(trace, roots, missing)
    )
    return 0


def asked(arguments: argparse.Namespace) -> tuple[str, list[dict[str, Any]], Path | None]:
    """The trace's id, its spans once tritonserver's are among them or `--wait` is over, the gateway's log.

    Raises `ServerError`.
    """
    trace = arguments.id
    if trace is None:
        ids = _get(f"{arguments.url}/traces")["ids"]
        if not ids:
            raise ServerError("no trace is kept yet; a request that carries a traceparent makes one")
        trace = ids[-1]
    deadline = time.monotonic() + arguments.wait
    while True:
        answer = _get(f"{arguments.url}/traces/{trace}")
        spans: list[dict[str, Any]] = answer["spans"]
        told = any(node.part == SERVER for root in tree_of(spans) for _, node in root.walk())
        if told or time.monotonic() > deadline:
            log = arguments.gateway_log or (Path(answer["gateway_log"]) if answer["gateway_log"] else None)
            return trace, spans, log
        time.sleep(LOOK_S)


def _get(url: str) -> dict[str, Any]:
    try:
        with urlopen(url, timeout=10) as answer:
            found = json.load(answer)
            assert isinstance(found, dict)
            return found
    except HTTPError as error:
        error.close()
        raise NoAnswerError(
            f"{url} answers {error.code}: start the server with `{COMMAND} --trace`"
        ) from None
    except (URLError, OSError, http.client.HTTPException, ValueError, AssertionError) as error:
        reason = getattr(error, "reason", error)
        raise NoAnswerError(
            f"no launcher answers at {url} ({reason}); say where its status port is with --url"
        ) from None


def as_object(trace: str, roots: list[Node], missing: dict[str, str]) -> dict[str, Any]:
    """For `--json`."""

    def of(node: Node) -> dict[str, Any]:
        return {
            "part": node.part,
            "name": node.name,
            "start_ns": node.start_ns,
            "duration_ms": round(node.duration_ms, 3),
            **({"told": node.told} if node.told else {}),
            "children": [of(child) for depth, child in node.walk() if depth == 1],
        }

    return {
        "trace_id": trace,
        "parts": {part: missing.get(part, "seen") for part in PARTS},
        "spans": [of(root) for root in roots],
    }


def as_text(trace: str, roots: list[Node], missing: dict[str, str]) -> str:
    """The tree: part, name, when it began and how long it took in milliseconds, and a bar."""
    rows = [(depth, node) for root in roots for depth, node in root.walk()]
    begin, end = min(node.start_ns for _, node in rows), max(node.end_ns for _, node in rows)
    width = max(2 * depth + len(_named(node)) for depth, node in rows)
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(begin / 1e9))
    lines = [f"trace {trace}, {began}, {(end - begin) / 1e6:.1f} ms", ""]
    lines.append(f"{'':8} {'':{width}} {'from ms':>9} {'takes ms':>9}")
    for depth, node in rows:
        offset = (node.start_ns - begin) / 1e6
        name, bar = f"{'  ' * depth}{_named(node)}", _bar(node, begin, end)
        lines.append(f"{node.part:8} {name:{width}} {offset:9.2f} {node.duration_ms:9.2f}  {bar}".rstrip())
    lines += ["", *(f"{part}: not seen; {why}" for part, why in missing.items())]
    return "\n".join(lines).rstrip()


def _named(node: Node) -> str:
    told = " ".join(
        f"{key}={node.told[key]}" for key in TOLD_LINE if key in node.told and node.part != SERVER
    )
    return " ".join(filter(None, (node.name, f"({told})" if told else "")))


def _bar(node: Node, begin: int, end: int) -> str:
    whole = max(end - begin, 1)
    left = round(BAR * (node.start_ns - begin) / whole)
    return " " * left + "#" * max(1, round(BAR * (node.end_ns - node.start_ns) / whole))
