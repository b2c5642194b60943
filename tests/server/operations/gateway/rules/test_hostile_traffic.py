"""Requests that are wrong in many ways at once: neither the gateway nor the server ends, hangs or grows.

Beside what the backend's fuzz test sends, these ask for what ends
tritonserver 2.51. Seeds are fixed; counts are printed.
"""

import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

import grpc
import pytest
from tritonclient.grpc import service_pb2

from tests import hostile_calls
from tests.fuzz import hostile_requests
from tests.hostile_calls import call, infer, unary
from tests.processes import alive, resident_bytes
from tests.rules import needs_haproxy

pytestmark = needs_haproxy

WORKERS = 4
TIMEOUT_S = 60
GROWTH_BYTES = 300 * 2**20
MODELS = {
    "echo": ("FP32", (1,)),
    "batches": ("FP32", (1, 1)),
    "loose": ("FP32", (3,)),
    "words": ("BYTES", (1,)),
}
NUMERIC = ("echo", "batches", "loose")
PARTS = (
    b'"classification":1',
    b'"outputs":[',
    b'{"name":"y"}',
    b"[" * 50,
    b"\\u0079",
    b'"',
    b"\0",
    b'"shape":[0]',
    b"9" * 30,
)
CALLS = [
    call("words", "BYTES", [1]), call("loose", "FP32", [0]), call("echo", "FP32", [1]),
    call("batches", "FP32", [0, 1]), call("echo", "FP32", [1], 0, shared_memory_region="r"),
]  # fmt: skip


def mutated(choose, body, parts):
    body = bytearray(body)
    for _ in range(choose.choice((0, 1, 1, 2, 5))):
        at = choose.randrange(len(body) + 1)
        body[at : at + choose.choice((0, 0, 1, 4, 40))] = choose.choice(parts)
    return bytes(body)


def http_requests(seed, count):
    source = hostile_requests.Source(
        seed, {name: {"x": MODELS[name]} for name in NUMERIC}, {name: ["y"] for name in NUMERIC}
    )
    choose = random.Random(seed)
    for _ in range(count):
        path, headers, body = source.http()
        if choose.random() < 0.5:
            model = choose.choice(list(MODELS))
            datatype, shape = MODELS[model]
            data = ["a"] if datatype == "BYTES" else [0] * shape[-1]
            request = {
                "inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": data}],
                "outputs": [
                    {"name": "y", "parameters": {"classification": choose.choice((1, 0, -1, 2**40))}}
                ],
            }
            path, headers = f"/v2/models/{model}/infer", {}
            body = mutated(choose, json.dumps(request).encode(), (*PARTS, choose.randbytes(1)))
        kind = choose.random()
        if kind < 0.05:
            headers["Content-Type"] = choose.choice(
                ("application/x-www-form-urlencoded", "text/plain", "", "\t")
            )
        elif kind < 0.1:
            path = mutated(choose, path.encode(), (b"/", b"..", b"%2f", b"?a", b"generate")).decode("latin-1")
            path = "/" + "".join(c for c in path if " " < c < "\x7f")
        elif kind < 0.12:
            body = choose.choice(
                (b"[" * 200_000, b'{"a":' * 100_000, b" " * 3_000_000, b'"' + b"a" * 9_000_000)
            )
        yield choose.choice(("POST",) * 20 + ("GET", "PUT")), path, body, headers, kind > 0.97


def over_http(url, seed, count, **more):
    """more: headers of each request."""
    counts = Counter()
    connection = HTTPConnection(url, timeout=TIMEOUT_S)
    for method, path, body, headers, in_chunks in http_requests(seed, count):
        try:
            connection.request(
                method,
                path,
                iter([body]) if in_chunks else body,
                {**headers, **more},
                encode_chunked=in_chunks,
            )
            answer = connection.getresponse()
            answer.read()
            counts[f"HTTP {answer.status}"] += 1
        except TimeoutError:
            raise AssertionError(f"a hang: {method} {path} {body[:2000]!r}") from None
        except (HTTPException, ConnectionError, ValueError):
            connection.close()
            counts["HTTP closed"] += 1
    connection.close()
    return counts


def over_grpc(url, seed, count, **more):
    """more: metadata of each call."""
    counts, choose = Counter(), random.Random(seed)
    source = hostile_requests.Source(
        seed, {name: {"x": MODELS[name]} for name in NUMERIC}, {name: ["y"] for name in NUMERIC}
    )
    metadata = list(more.items())
    with grpc.insecure_channel(url) as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        for _ in range(count):
            if choose.random() < 0.4:
                body = source.grpc(service_pb2).SerializeToString()
            else:
                parts = [*(part.SerializeToString() for part in CALLS), choose.randbytes(2), b"\x80", b"\x0b"]
                body = mutated(choose, choose.choice(CALLS).SerializeToString(), parts)
            compression = grpc.Compression.Gzip if choose.random() < 0.03 else None
            try:
                if choose.random() < 0.3:
                    another = choose.choice(CALLS).SerializeToString()
                    messages = iter([body, another, body])
                    list(stream(messages, timeout=TIMEOUT_S, compression=compression, metadata=metadata))
                else:
                    ask(body, timeout=TIMEOUT_S, compression=compression, metadata=metadata)
                counts["gRPC OK"] += 1
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise AssertionError(f"a hang: {body!r}") from None
                counts[f"gRPC {error.code().name}"] += 1
    return counts


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.long)])
def test_hostile_traffic(triton, behind, count, capsys):
    share = count // (2 * WORKERS)
    before = resident_bytes(behind.pid), resident_bytes(triton.triton)
    with ThreadPoolExecutor(2 * WORKERS) as pool:
        done = [pool.submit(over_http, behind.http_url, 1000 + worker, share) for worker in range(WORKERS)]
        done += [pool.submit(over_grpc, behind.grpc_url, 2000 + worker, share) for worker in range(WORKERS)]
        counts = sum((future.result() for future in done), Counter())
    after = resident_bytes(behind.pid), resident_bytes(triton.triton)
    assert alive([behind.pid, triton.triton]) == [behind.pid, triton.triton]
    assert infer(behind.http_url, "echo", "FP32", [1], [2]) == 200
    assert unary(hostile_calls.call("echo", "FP32", [1]))(behind.grpc_url) == "OK"
    assert "rules.lua:" not in behind.log.read_text()
    for old, new in zip(before, after, strict=True):
        assert new - old < GROWTH_BYTES
    assert {"HTTP 200", "HTTP 400", "HTTP 415", "gRPC OK", "gRPC INVALID_ARGUMENT"} <= set(counts)
    with capsys.disabled():
        memory = ", ".join(f"{old >> 20} to {new >> 20} MiB" for old, new in zip(before, after, strict=True))
        print(f"\n{counts.total()} hostile, {dict(sorted(counts.items()))}; HAProxy, Triton: {memory}")
