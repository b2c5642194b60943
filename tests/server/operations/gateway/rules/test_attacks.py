"""What ends tritonserver 2.51, sent through the gateway: refused with the right status, and it lives on."""

import json
import socket
from queue import SimpleQueue

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server import TritonServer
from tests import hostile_calls
from tests.hostile_calls import call, infer, post, send, stream, unary
from tests.processes import alive, descendants, wait_until
from tests.rules import needs_haproxy

pytestmark = needs_haproxy


@pytest.fixture(autouse=True)
def still_answers(triton, behind):
    yield
    assert alive([triton.triton])
    assert infer(behind.http_url, "echo", "FP32", [1], [2]) == 200
    assert unary(call("echo", "FP32", [1]))(behind.grpc_url) == "OK"


@pytest.mark.parametrize("attack", hostile_calls.HTTP)
def test_over_http(behind, attack):
    send_it, statuses = hostile_calls.HTTP[attack]
    assert send_it(behind.http_url) in statuses


@pytest.mark.parametrize("attack", hostile_calls.GRPC)
def test_over_grpc(behind, attack):
    send_it, statuses = hostile_calls.GRPC[attack]
    assert send_it(behind.grpc_url) in statuses


@pytest.mark.long
@pytest.mark.parametrize("attack", ["a form, infer", "chunks, infer", "nested, infer", "classes of BYTES"])
def test_ends_the_server_without_the_rules(tmp_path, attack):
    hostile_calls.publish(tmp_path / "models")
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as running:
        triton = descendants(running.pid)[0]
        hostile_calls.HTTP[attack][0](running.http_url)
        wait_until(lambda: not alive([triton]), 60)


BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
JSON = json.dumps(BODY).encode()
BINARY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]}
).encode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_encoding": "gzip"}, 415),
        ({"content_encoding": "identity"}, 200),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "multipart/form-data; boundary=x"}, 415),
        ({"content_type": "application/json\r\ncontent-type: application/x-www-form-urlencoded"}, 400),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_length": 17 * 2**20}, 413),
        ({"content_length": "5x"}, 400),
        ({"content_length": f"{len(JSON)}\r\ncontent-length: 5"}, 400),
        ({"inference_header_content_length": len(JSON)}, 200),
        ({"inference_header_content_length": len(JSON) + 1}, 400),
        ({"inference_header_content_length": len(JSON) - 1}, 400),
        ({"inference_header_content_length": -1}, 400),
        ({"inference_header_content_length": "0x10"}, 400),
        ({"inference_header_content_length": "9" * 30}, 400),
        ({"inference_header_content_length": f"{len(JSON)}\r\ninference-header-content-length: 5"}, 400),
        ({"expect": "100-continue"}, 100),
    ],
)
def test_headers(behind, headers, status):
    hung_up = [None] if status == 400 else []  # by HAProxy 3.2, of a length that comes twice
    assert post(behind.http_url, JSON, **headers) in (status, *hung_up)


def test_two_kinds_of_length(behind):
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(JSON), JSON)
    assert send(behind.http_url, chunk, content_length=len(chunk), transfer_encoding="chunked") == 411
    assert send(behind.http_url, chunk, transfer_encoding="gzip, chunked") in (400, 411, 422)


@pytest.mark.parametrize(
    ("head", "tail", "status"), [(BINARY, bytes(4), 200), (BINARY, bytes(5), 400), (BINARY, b"", 400)]
)
def test_binary_data(behind, head, tail, status):
    assert post(behind.http_url, head + tail, inference_header_content_length=len(head)) == status


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/echo%2finfer", "/v2/models/../echo/infer", "/v2//models/echo/infer",
        "/v2/models/echo/infer%00", "/v2/models/./echo/infer", "/v2/models/" + "x" * 2000 + "/infer",
        "/v2/models/e cho/infer", "/v2/models/..",
    ],
)  # fmt: skip
def test_paths(behind, path):
    assert post(behind.http_url, JSON, path) in (400, 404)


def test_a_version_of_a_model_is_that_model(behind):
    classes = {**BODY, "outputs": [{"name": "y", "parameters": {"classification": 1}}]}
    assert post(behind.http_url, classes, "/v2/models/echo/versions/1/infer") == 200
    assert post(behind.http_url, classes, "/v2/models/words/versions/1/infer") == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "X"])
def test_methods(behind, method):
    assert (
        raw(
            behind.http_url,
            f"{method} /v2/models/echo/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        )
        == 405
    )


def test_a_body_belongs_to_a_post(behind):
    assert (
        raw(behind.http_url, "GET /v2/health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}") == 400
    )


def raw(url, text):
    host, _, port = url.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(text.encode())
        return int(connection.recv(4096).split()[1])


@pytest.mark.parametrize("size", [3000, 12_000, 1_000_000])
def test_what_comes_late_is_found(behind, size):
    """Behind what is read at once, or more than a buffer holds: the server never gets the end."""
    many = {**BODY, "outputs": [{"name": "y"}, {"name": "y", "parameters": {"classification": 1}}]}
    body = json.dumps(many).encode().replace(b'"outputs"', b" " * size + b'"outputs"')
    assert post(behind.http_url, body, "/v2/models/words/infer") == 400
    assert post(behind.http_url, body + b"}") == 400
    request = call("words", "BYTES", [1])
    request.raw_input_contents.append(bytes(size))
    early = request.SerializeToString()
    outputs = service_pb2.ModelInferRequest(outputs=request.outputs).SerializeToString()
    late = early.replace(outputs, b"") + outputs
    assert raw_unary(behind.grpc_url, late) == "INVALID_ARGUMENT"


def test_a_call_that_goes_on_behind_its_head_is_good(behind):
    """The rules are given its first 2 KiB, and look at the rest where that is not contents alone."""
    request = call("echo", "FP32", [1], classes=0)
    outputs = service_pb2.ModelInferRequest(outputs=request.outputs, id="i" * 5000).SerializeToString()
    del request.outputs[:]
    assert raw_unary(behind.grpc_url, outputs + request.SerializeToString()) == "OK"


def raw_unary(url, message, method="ModelInfer", **options):
    with grpc.insecure_channel(url) as channel:
        ask = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            return ask(message, timeout=60, **options) and "OK"
        except grpc.RpcError as error:
            return error.code().name


def test_grpc_sizes_compression_and_names_of_calls(behind):
    assert raw_unary(behind.grpc_url, bytes(17 * 2**20)) == "RESOURCE_EXHAUSTED"
    assert raw_unary(behind.grpc_url, bytes(70_000), "RepositoryIndex") == "RESOURCE_EXHAUSTED"
    assert raw_unary(behind.grpc_url, b"", "Nothing_") == "UNIMPLEMENTED"
    good = call("echo", "FP32", [1]).SerializeToString()
    assert raw_unary(behind.grpc_url, good, compression=grpc.Compression.Gzip) == "UNIMPLEMENTED"
    with grpc.insecure_channel(behind.grpc_url) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/other.Service/Call")(b"")
    assert caught.value.code().name == "UNIMPLEMENTED"


def test_refused_beside_good_ones_on_one_connection(behind):
    """Of many calls at once on a channel each good one is answered, and each bad one refused."""
    good, bad = call("echo", "FP32", [1]), call("words", "BYTES", [1])
    with grpc.insecure_channel(behind.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(bad if n % 3 == 0 else good, timeout=60) for n in range(120)]
        for n, future in enumerate(calls):
            assert (future.exception() is None) == (n % 3 != 0)
            if n % 3 == 0:
                assert future.code().name == "INVALID_ARGUMENT"
                assert "ask for the whole output" in future.details()


def test_a_stream_outlives_a_bad_message(behind):
    """Good and bad ones in turn, while the stream is open: each is answered for itself."""
    good, bad = call("echo", "FP32", [1], 0), call("words", "BYTES", [1])
    large = call("words", "BYTES", [1])
    large.raw_input_contents[0] = bytes(100_000)
    queue = SimpleQueue()
    with grpc.insecure_channel(behind.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = stub.ModelStreamInfer(iter(queue.get, None), timeout=60)
        for message in (good, bad, good, bad, bad, large, good):
            queue.put(message)
            refused = "(refused by the gateway)" in next(answers).error_message
            assert refused == (message is not good)
        for message in (good, bad, good, large, good):  # all at once
            queue.put(message)
        errors = [next(answers).error_message for _ in range(5)]
        assert sum(map(bool, errors)) == 2
        queue.put(None)
        assert not list(answers)


def test_a_stream_is_cut_off_where_its_messages_cannot_be_told(behind):
    def refused(*bodies):
        queue = SimpleQueue()
        with grpc.insecure_channel(behind.grpc_url) as channel:
            ask = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            answers = ask(iter(queue.get, None), timeout=60)
            for body in bodies:
                queue.put(body)
            with pytest.raises(grpc.RpcError) as caught:
                next(answers)
            queue.put(None)
            return caught.value.code().name

    assert refused(bytes(17 * 2**20)) in ("RESOURCE_EXHAUSTED", "CANCELLED")


def test_one_byte_at_a_time(behind, triton):
    """Triton gets it in few pieces, or it would keep each on its own."""
    assert (
        send(behind.http_url, *(JSON[at : at + 1] for at in range(len(JSON))), content_length=len(JSON))
        == 200
    )
    assert stream(call("words", "BYTES", [1]))(behind.grpc_url) == "INVALID_ARGUMENT"
