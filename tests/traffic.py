"""Load on a gateway, of which every request is followed: steady, by several kinds of clients, or at a rate.

`Load` is what a number of clients send, each of which waits for its answer; `Arrivals` come at a given rate,
whatever becomes of those before. Nothing is sent again, and answers are checked. Both ask a model whose `y`
is `x` + 1, FP32, of `shape`; what a `crew` asks is up to the test.
"""

import asyncio
import contextlib
import http.client
import json
import random
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

REFUSALS_OF_HTTP = (429, 503)
REFUSALS_OF_GRPC = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
TIMEOUT_S = 60.0
KINDS = ("http", "grpc")
ALL_KINDS = (*KINDS, "http, a connection each", "grpc, a channel each", "http, binary")
CHANNELS = 4  # of Arrivals: HAProxy takes 100 calls at a time on each


@dataclass
class Counted:
    """answered: rightly. refused: told to ask again. lost: no answer, a wrong one, or any other error.

    seconds, refused_seconds: how long those took. ends: (when it ended, what it was), for `recovery_s`.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    reasons: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)
    ends: list[tuple[float, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, reason: str, took: float) -> None:
        with self._lock:
            self.sent += 1
            setattr(self, what, getattr(self, what) + 1)
            self.ends.append((time.monotonic(), what))
            if what == "answered":
                self.seconds.append(took)
                return
            self.reasons[f"{what}: {reason}"[:160]] += 1
            if what == "refused":
                self.refused_seconds.append(took)

    def percentile(self, percent: float) -> float:
        """Of those answered, in seconds."""
        return float(np.percentile(self.seconds, percent)) if self.seconds else 0.0

    def since(self, moment: float) -> Counter:
        """What ended after that moment of the monotonic clock."""
        return Counter(what for ended, what in list(self.ends) if ended >= moment)

    def __str__(self) -> str:
        p50, p99, longest = (self.percentile(percent) * 1000 for percent in (50, 99, 100))
        why = "".join(f"\n    {count} x {reason}" for reason, count in self.reasons.most_common(8))
        return (
            f"{self.sent} sent, {self.answered} answered right, {self.refused} refused, {self.lost} lost; "
            f"p50 {p50:.1f}, p99 {p99:.0f}, longest {longest:.0f} ms{why}"
        )


class Load:
    """Asks `rate` times a second in all, until `stop()`; threads take the kinds of clients in turn.

    A thread that waits for an answer sends later: a slow server gets less. certificate: None is plain text.
    """

    def __init__(
        self, port: int, key: str, certificate: Path | None, model: str, rate: float, threads: int = 8,
        kinds: tuple[str, ...] = KINDS, shape: tuple[int, ...] = (1,), timeout_s: float = TIMEOUT_S,
    ):  # fmt: skip
        self._asked = _Asked(port, key, certificate, model, shape, timeout_s)
        self._pause = threads / rate
        self._stopped = threading.Event()
        self.counted = Counted()
        self._threads = [
            threading.Thread(target=self._send, args=(kinds[number % len(kinds)], number), daemon=True)
            for number in range(threads)
        ]
        for number, thread in enumerate(self._threads):
            thread.name = f"load {number}"
            thread.start()

    def stop(self) -> Counted:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        return self.counted

    def _send(self, kind: str, number: int) -> None:
        due = time.monotonic() + self._pause * number / len(self._threads)
        with self._asked.client(kind) as ask:
            value = 0
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                due = max(due + self._pause, time.monotonic() - self._pause)
                value = (value + 1) % 2**20
                began = time.monotonic()
                what, reason = ask(float(value))
                self.counted.add(what, reason and f"{kind}: {reason}", time.monotonic() - began)


def crew(client, threads: int, requests: int) -> Counted:
    """So many requests in all, one after the other in each thread.

    client: gives a context for each, of a function that asks; it takes a request's number, and tells what
        became of it, and why.
    """
    counted = Counted()

    def work(first: int) -> None:
        with client() as ask:
            for number in range(first, requests, threads):
                began = time.monotonic()
                what, reason = ask(number)
                counted.add(what, reason, time.monotonic() - began)

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, first) for first in range(threads)]:
            done.result()
    return counted


@dataclass(frozen=True)
class _Asked:
    """Whom to ask for what; `client` gives a function that asks it, and says what became of it and why."""

    port: int
    key: str
    certificate: Path | None
    model: str
    shape: tuple[int, ...]
    timeout_s: float

    @contextlib.contextmanager
    def client(self, kind: str):
        client = (_Grpc if kind.startswith("grpc") else _Http)(self, kind)
        try:
            yield client
        finally:
            client.close()

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}/infer"

    def body(self, value: float) -> tuple[bytes, dict[str, str]]:
        """In JSON, and its headers."""
        data = [value] * int(np.prod(self.shape))
        entry = {"name": "x", "shape": self.shape, "datatype": "FP32", "data": data}
        headers = {"x-api-key": self.key, "content-type": "application/json"}
        return json.dumps({"inputs": [entry]}).encode(), headers

    def binary_body(self, value: float) -> tuple[bytes, dict[str, str]]:
        data = np.full(self.shape, value, np.float32).tobytes()
        entry = {
            "name": "x",
            "shape": self.shape,
            "datatype": "FP32",
            "parameters": {"binary_data_size": len(data)},
        }
        head = json.dumps({"inputs": [entry]}).encode()
        headers = {"x-api-key": self.key, "content-type": "application/octet-stream"}
        return head + data, {**headers, "inference-header-content-length": str(len(head))}

    def judged(self, status: int, text: bytes, value: float) -> tuple[str, str]:
        """Of an answer over HTTP."""
        if status == 200:
            right = json.loads(text)["outputs"][0]["data"][0] == value + 1
            return ("answered", "") if right else ("lost", f"a wrong answer {text!r}")
        return "refused" if status in REFUSALS_OF_HTTP else "lost", f"{status} {text.decode().strip()}"

    def message(self, value: float) -> service_pb2.ModelInferRequest:
        request = service_pb2.ModelInferRequest(model_name=self.model)
        request.inputs.add(name="x", datatype="FP32", shape=self.shape)
        request.raw_input_contents.append(np.full(self.shape, value, np.float32).tobytes())
        return request

    @staticmethod
    def judged_message(answer, value: float) -> tuple[str, str]:
        right = np.frombuffer(answer.raw_output_contents[0], np.float32)[0] == value + 1
        return ("answered", "") if right else ("lost", "a wrong answer")

    @staticmethod
    def judged_error(error: grpc.RpcError) -> tuple[str, str]:
        status = error.code().name
        return "refused" if status in REFUSALS_OF_GRPC else "lost", f"{status} {error.details()}"

    def channel(self):
        if self.certificate is None:
            return grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.use_local_subchannel_pool", 1)])
        trusted = grpc.ssl_channel_credentials(self.certificate.read_bytes())
        return grpc.secure_channel(f"localhost:{self.port}", trusted, [("grpc.use_local_subchannel_pool", 1)])


class _Http:
    """http.client: JSON on one connection, or on one each, or binary."""

    def __init__(self, asked: _Asked, kind: str):
        self._asked, self._each, self._binary = asked, "each" in kind, "binary" in kind
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, value: float) -> tuple[str, str]:
        body, headers = (self._asked.binary_body if self._binary else self._asked.body)(value)
        try:
            self._connection = self._connection or self._connected()
            self._connection.request("POST", self._asked.path, body, headers)
            answer = self._connection.getresponse()
            outcome = self._asked.judged(answer.status, answer.read(), value)
            if self._each or answer.will_close:
                self.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return "lost", repr(error)
        return outcome

    def _connected(self) -> http.client.HTTPConnection:
        asked = self._asked
        if asked.certificate is None:
            return http.client.HTTPConnection("127.0.0.1", asked.port, timeout=asked.timeout_s)
        context = ssl.create_default_context(cafile=str(asked.certificate))
        return http.client.HTTPSConnection("localhost", asked.port, context=context, timeout=asked.timeout_s)

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


class _Grpc:
    """grpcio: on one channel, or on one each."""

    def __init__(self, asked: _Asked, kind: str):
        self._asked, self._each = asked, "each" in kind
        self._channel: grpc.Channel | None = None

    def __call__(self, value: float) -> tuple[str, str]:
        asked = self._asked
        if self._channel is None:
            self._channel = asked.channel()
            self._ask = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer
        try:
            answer = self._ask(
                asked.message(value), metadata=[("x-api-key", asked.key)], timeout=asked.timeout_s
            )
            return asked.judged_message(answer, value)
        except grpc.RpcError as error:
            return asked.judged_error(error)
        finally:
            if self._each:
                self.close()

    def close(self) -> None:
        if self._channel:
            self._channel.close()
            self._channel = None


class Arrivals:
    """Requests that arrive at random, `rate` a second on average (Poisson), each as its time has come.

    Half over HTTP, on as many connections as it takes, and half over gRPC, on a few; in plain text.
    """

    def __init__(
        self, port: int, key: str, model: str, shape: tuple[int, ...] = (1,), timeout_s: float = TIMEOUT_S
    ):
        self._asked = _Asked(port, key, None, model, shape, timeout_s)
        self.counted = Counted()

    def run(self, rate: float, seconds: float, seed: int = 0) -> Counted:
        """Until all are answered that arrive within so many seconds; what became of them. Once per object."""
        asyncio.run(self._run(rate, seconds, random.Random(seed)))
        return self.counted

    async def _run(self, rate: float, seconds: float, choose: random.Random) -> None:
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        address, options = f"127.0.0.1:{self._asked.port}", [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(address, options) for _ in range(CHANNELS)]
        stubs = [service_pb2_grpc.GRPCInferenceServiceStub(channel) for channel in channels]
        began = due = time.monotonic()
        tasks: set[asyncio.Task] = set()
        number = 0
        while (due := due + choose.expovariate(rate)) < began + seconds:
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            number += 1
            stub = stubs[number // 2 % CHANNELS] if number % 2 else None
            tasks.add(task := asyncio.create_task(self._one(float(number), stub)))
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for channel in channels:
            await channel.close()
        for _, writer in self._idle:
            writer.close()

    async def _one(self, value: float, stub) -> None:
        began = time.monotonic()
        what, reason = await (self._over_grpc(stub, value) if stub else self._over_http(value))
        kind = "grpc" if stub else "http"
        self.counted.add(what, reason and f"{kind}: {reason}", time.monotonic() - began)

    async def _over_grpc(self, stub, value: float) -> tuple[str, str]:
        asked = self._asked
        try:
            metadata = [("x-api-key", asked.key)]
            answer = await stub.ModelInfer(asked.message(value), metadata=metadata, timeout=asked.timeout_s)
            return asked.judged_message(answer, value)
        except grpc.RpcError as error:
            return asked.judged_error(error)

    async def _over_http(self, value: float) -> tuple[str, str]:
        body, headers = self._asked.body(value)
        lines = [f"POST {self._asked.path} HTTP/1.1", "host: gateway", f"content-length: {len(body)}"]
        lines += [f"{name}: {content}" for name, content in headers.items()]
        try:
            reader, writer = self._idle.pop() if self._idle else await self._connected()
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            head, text = await asyncio.wait_for(self._read(reader), self._asked.timeout_s)
            if b"\r\nconnection: close" in head:
                writer.close()
            else:
                self._idle.append((reader, writer))
            return self._asked.judged(int(head.split()[1]), text, value)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            return "lost", repr(error)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._asked.port)

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"\r\ncontent-length:")[2].split()[0])
        return head, await reader.readexactly(length)
