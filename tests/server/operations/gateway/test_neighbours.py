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


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours")
    many = {"rate": 100_000, "concurrency": 1000}
    few = Grant("few", rate=100_000, concurrency=FEW)
    tenants = Tenants(folder / "keys", Grant("alice", **many), Grant("bob", **many), few)
    with Served(write_models(folder / "models"), folder / "log", tenants, servers=1) as served:
        yield served


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
    message = service_pb2.ModelInferRequest(model_name="tiny")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    message.raw_input_contents.append(np.float32(1).tobytes())
    body = message.SerializeToString()
    call = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": "g",
        "te": "trailers",
        "content-type": "application/grpc",
        "x-api-key": served.tenants.keys["alice"],
        name: value,
    }
    headers = b"".join(http2.literal(*pair) for pair in call.items())
    ends = (http2.DATA, http2.RST, http2.GOAWAY)
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0))
        connection.sendall(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, headers))
        connection.sendall(
            http2.frame(http2.DATA, http2.END_STREAM, 1, struct.pack(">BI", 0, len(body)) + body)
        )
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
