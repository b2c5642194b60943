"""The launcher's end of what rollout.lua sends: copies of requests, which both versions are asked; counts.

The answers to copies go to nobody. Of a copy and its answers nothing is kept, but where a folder was named
for it.
"""

import contextlib
import http.client
import itertools
import json
import math
import os
import queue
import random
import re
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ...running.grpc_load import CHANNEL, can_load_over_grpc
from .answers import Output, alike, of_grpc, of_http
from .evidence import Evidence

__all__ = ["Shadow", "ShadowTarget"]

COPY = re.compile(rb"copy (http|grpc) (/[A-Za-z0-9_./-]*) (-|\d+) (\d+)\n")
COUNT = re.compile(rb"(\w+) (\d+) (\d+) ([0-9.]+)\n")
SEEN = b"seen\n"
INFER = "/inference.GRPCInferenceService/ModelInfer"
HEAD = "Inference-Header-Content-Length"
GRPC_PREFIX = 5  # a byte of flags and the length
WORKERS, MOST_WAITING = 4, 32  # copies at a time; further ones are left out
LONGEST_LINE, MOST_BYTES = 4096, 64 * 2**20
TIMEOUT_S = 30.0


class Copied(NamedTuple):
    """A request. head: bytes of JSON before its tensors, "-" for none of them or over gRPC."""

    kind: str
    path: str
    head: str
    body: bytes


class Answered(NamedTuple):
    """error: "" for none, and `raw` is an answer then."""

    error: str
    ms: float
    raw: bytes
    head: int | None


class ShadowTarget:
    """One tritonserver, asked by one thread. http, grpc: host:port."""

    def __init__(self, http_url: str, grpc_url: str):
        self._http = http.client.HTTPConnection(http_url, timeout=TIMEOUT_S)
        self._grpc_url = grpc_url
        self._channel: Any = None  # of grpc, which is imported late
        self._asked: set[str] = set()

    def ask(self, copied: Copied) -> Answered:
        """Its answer, or error. One that connects first has no time: it is nan."""
        began = time.perf_counter()
        error, raw, head = (self._over_grpc if copied.kind == "grpc" else self._over_http)(copied)
        ms = (time.perf_counter() - began) * 1e3 if copied.kind in self._asked else math.nan
        self._asked.add(copied.kind)
        return Answered(error, ms, raw, head)

    def _over_http(self, copied: Copied) -> tuple[str, bytes, int | None]:
        headers = {} if copied.head == "-" else {HEAD: copied.head}
        for attempt in (1, 2):  # a connection that was kept may have been closed meanwhile
            try:
                self._http.request("POST", copied.path, copied.body, headers)
                answer = self._http.getresponse()
                raw = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self._http.close()
                if attempt == 2:
                    return f"no answer: {error or type(error).__name__}", b"", None
        head = answer.getheader(HEAD)
        if answer.status != 200:
            return f"{answer.status} {raw[:300].decode(errors='replace')}", raw, None
        return "", raw, int(head) if head else None

    def _over_grpc(self, copied: Copied) -> tuple[str, bytes, int | None]:
        import grpc  # only once something is asked: it takes a while

        if self._channel is None:
            self._channel = grpc.insecure_channel(
                self._grpc_url, options=(*CHANNEL, ("grpc.max_receive_message_length", -1))
            )
        call = self._channel.unary_unary(INFER)  # bytes in, bytes out
        try:
            return "", call(copied.body[GRPC_PREFIX:], timeout=TIMEOUT_S), None
        except grpc.RpcError as error:
            return f"{error.code().name} {error.details()}", b"", None

    def close(self) -> None:
        """Hang up."""
        self._http.close()
        if self._channel is not None:
            self._channel.close()


class Shadow(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves at `path` while the context is open.

    old: URLs (HTTP, gRPC) of the servers with the old version, as they are now; new: those of the candidate.
    slot: the candidate's. record: see `Plan`; it is there. copied: what is found out by copies; counted: what
    clients got.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        path: Path,
        old: Callable[[], list[tuple[str, str]]],
        new: tuple[str, str],
        slot: str,
        record: Path | None,
    ):
        self.copied, self.counted = Evidence(), Evidence()
        self._old, self._new, self._slot, self._record = old, new, slot, record
        self._copies: queue.Queue[Copied | None] = queue.Queue(MOST_WAITING)
        self._numbers, self._path = itertools.count(1), path
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        super().__init__(str(path), CopyHandler)
        path.chmod(0o600)

    def __enter__(self) -> "Shadow":
        for work in (self.serve_forever, *[self._work] * WORKERS):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        with contextlib.suppress(queue.Empty):  # nobody waits for what a version that hangs leaves
            while True:
                self._copies.get_nowait()
        for _worker in range(WORKERS):
            with contextlib.suppress(queue.Full):
                self._copies.put(None, timeout=TIMEOUT_S)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A gateway that hung up is no news."""

    def take(self, copied: Copied) -> None:
        """To be asked soon; left out where too many are waiting."""
        if copied.kind == "http" or can_load_over_grpc():
            with contextlib.suppress(queue.Full):
                self._copies.put_nowait(copied)

    def count(self, slot: str, status: int, grpc_status: int, ms: float) -> None:
        """What a client got, and from whom."""
        self.counted.add(slot == self._slot, status >= 400 or grpc_status != 0, ms)

    def _work(self) -> None:
        targets: dict[tuple[str, str], ShadowTarget] = {}
        while copied := self._copies.get():
            urls = self._old()
            if not urls:
                continue
            pair = [random.choice(urls), self._new]
            for url in pair:
                if url not in targets:
                    targets[url] = ShadowTarget(*url)
            order = random.sample((0, 1), 2)  # so that neither profits from the other
            answers = {side: targets[pair[side]].ask(copied) for side in order}
            self._compare(copied, answers[0], answers[1])
        for target in targets.values():
            target.close()

    def _compare(self, copied: Copied, old: Answered, new: Answered) -> None:
        found, error = None, new.error
        if not old.error and not new.error:
            try:
                found = alike(_outputs(copied, old), _outputs(copied, new))
            except (ValueError, KeyError, TypeError) as problem:
                found = None if old.raw == new.raw else (False, float("inf"))
                error = "" if found is None else f"an answer that cannot be read: {problem}"
        self.copied.add_pair((old.error, old.ms), (error, new.ms), found)
        if self._record:
            self._keep(self._record, copied, old, new, found)

    def _keep(
        self, folder: Path, copied: Copied, old: Answered, new: Answered, found: tuple[bool, float] | None
    ) -> None:
        name = f"{time.strftime('%Y%m%dT%H%M%S')}-{next(self._numbers):06}"
        told = {
            "kind": copied.kind,
            "path": copied.path,
            "head": copied.head,
            "agree": found[0] if found else None,
            "difference": found[1] if found and math.isfinite(found[1]) else None,
            **{
                side: {"error": answer.error, "ms": answer.ms, "head": answer.head}
                for side, answer in (("old", old), ("new", new))
            },
        }
        parts = {"json": json.dumps(told).encode(), "request": copied.body, "old": old.raw, "new": new.raw}
        with contextlib.suppress(OSError):  # a full disk is no reason to end a rollout
            for part, content in parts.items():
                with open(
                    os.open(folder / f"{name}.{part}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
                ) as file:
                    file.write(content)


def _outputs(copied: Copied, answer: Answered) -> dict[str, Output]:
    return of_grpc(answer.raw) if copied.kind == "grpc" else of_http(answer.raw, answer.head)


class CopyHandler(socketserver.StreamRequestHandler):
    """One message of rollout.lua: a copy, or counts."""

    server: Shadow
    timeout = TIMEOUT_S

    def handle(self) -> None:
        """See the module."""
        first = self.rfile.readline(LONGEST_LINE)
        if first == SEEN:
            for line in self.rfile:
                if count := COUNT.fullmatch(line):
                    self.server.count(count[1].decode(), int(count[2]), int(count[3]), float(count[4]))
        elif (copy := COPY.fullmatch(first)) and (size := int(copy[4])) <= MOST_BYTES:
            body = self.rfile.read(size)
            if len(body) == size:
                self.server.take(Copied(copy[1].decode(), copy[2].decode(), copy[3].decode(), body))
