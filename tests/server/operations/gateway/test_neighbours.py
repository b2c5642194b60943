"""What one tenant sends, and what becomes of the requests of others: one real server behind the gateway."""

import contextlib
import json
import socket
import struct

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from server.operations.gateway.keys import Grant
from tests.gateways import Served, Tenants, needs_haproxy, write_models
from tests.processes import wait_until
from tests.server.operations.gateway import test_framing as http2

pytestmark = needs_haproxy

FEW = 3  # requests at a time: fewer than the least that a server is given
BUFFER_BYTES = 256 * 2**10
INITIAL_WINDOW_SIZE, WINDOW_UPDATE = 4, 8  # a setting, and a kind of frame


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours")
    many = {"rate": 100_000, "concurrency": 1000}
    few = Grant("few", rate=100_000, concurrency=FEW)
    tenants = Tenants(folder / "keys", Grant("alice", **many), Grant("bob", **many), few)
    # A call that is cut off can leave a model in use for good, and a stop waits: docs/reference/security.md
    triton = ("--", "--exit-timeout-secs=3")
    with Served(write_models(folder / "models"), folder / "log", tenants, *triton, servers=1) as served:
        yield served


def message(**fields):
    """A call of `tiny`, in its frame."""
    request = service_pb2.ModelInferRequest(model_name="tiny", **fields)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(np.float32(1).tobytes())
    return struct.pack(">BI", 0, request.ByteSize()) + request.SerializeToString()


def call(key, **more):
    """The block of headers of ModelInfer."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": "g",
        "te": "trailers",
        "content-type": "application/grpc",
        "x-api-key": key,
        **more,
    }
    return b"".join(http2.literal(*pair) for pair in fields.items())


@pytest.mark.parametrize("size", [BUFFER_BYTES + 1, 4 * BUFFER_BYTES])
def test_a_message_larger_than_the_buffer_is_answered(size, served):
    assert served.infer(1, request_id="i" * size, model_version="1") == 2
    wait_until(lambda: any(line["bytes_in"] > size for line in served.logged()))
    (line,) = (line for line in served.logged() if size < line["bytes_in"] < 1.1 * size)
    assert (line["model"], line["version"]) == ("tiny", "1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc-timeout", "-1S"),
        ("grpc-timeout", "0n"),
        ("grpc-previous-rpc-attempts", "-1"),
        ("grpc-retry-pushback-ms", "x"),
        ("grpc-tags-bin", "~"),
        ("x-bin", "!"),
        ("-bin", "A"),
    ],
)
def test_malformed_metadata_ends_no_connection_that_others_share(name, value, served):
    """gRPC in tritonserver ends the whole connection for them: what is under way there would be lost."""
    body, headers = message(), call(served.tenants.keys["alice"], **{name: value})
    ends = (http2.DATA, http2.RST, http2.GOAWAY)
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0))
        connection.sendall(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, headers))
        connection.sendall(http2.frame(http2.DATA, http2.END_STREAM, 1, body))
        kind, payload = next(one for one in http2.frames(connection.makefile("rb")) if one[0] in ends)
    assert kind == http2.DATA
    (answer,) = service_pb2.ModelInferResponse.FromString(payload[5:]).raw_output_contents
    assert answer == np.float32(2).tobytes()


def test_who_does_not_read_keeps_no_more_than_its_places(served):
    """Large answers stay with their server until they are read: the tenant's limit keeps others going."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}
    body = json.dumps({"id": "i" * 6_000_000, "inputs": [tensor]})
    request = (
        f"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: g\r\nx-api-key: {served.tenants.keys['few']}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()
    with contextlib.ExitStack() as unread:
        statuses = []
        for _ in range(4 * FEW):
            one = unread.enter_context(socket.create_connection(("127.0.0.1", served.port), 60))
            with contextlib.suppress(ConnectionError):  # it was refused before all was sent
                one.sendall(request)
            with contextlib.suppress(ConnectionError):
                statuses.append(one.recv(12)[9:])
        assert statuses.count(b"200") == FEW
        for kind in ("http", "grpc"):
            for value in range(8):
                assert served.infer(value, "bob", kind=kind) == value + 1


def test_grpc_answers_that_are_not_read_keep_no_other_call_waiting(served):
    """HAProxy reads no more of a connection to a server while one of the answers on it has no room."""
    with contextlib.ExitStack() as unread:
        for _ in range(FEW):
            one = unread.enter_context(socket.create_connection(("127.0.0.1", served.port), 60))
            send_unread(one, served.tenants.keys["alice"], message(id="i" * 2_000_000))
        for value in range(8):
            assert served.infer(value, "bob", client_timeout=60) == value + 1


def send_unread(connection, key, body):
    """A call whose answer has begun; the windows let none of its contents through."""
    no_window = struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)
    connection.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, no_window))
    connection.sendall(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, call(key)))
    stream, initial = connection.makefile("rb"), 65_535
    room = {0: initial, 1: initial}
    while True:
        while body and (size := min(16_384, *room.values())) > 0:
            piece, body = body[:size], body[size:]
            connection.sendall(http2.frame(http2.DATA, 0 if body else http2.END_STREAM, 1, piece))
            room = {number: left - len(piece) for number, left in room.items()}
        head = stream.read(9)
        payload = stream.read(int.from_bytes(head[:3], "big"))
        if head[3] == http2.SETTINGS:
            settings = dict(struct.iter_unpack(">HI", payload))
            room[1] += settings.get(INITIAL_WINDOW_SIZE, initial) - initial
        elif head[3] == WINDOW_UPDATE:
            room[int.from_bytes(head[5:], "big")] += int.from_bytes(payload, "big")
        elif head[3] == http2.HEADERS:
            return
