"""Requests that end tritonserver 2.51 where nothing is in front of it, written to sockets as they are.

`HTTP` and `GRPC` are {what it is: (function of the url that gives a status, statuses of the gateway)}.
They ask models that `publish` writes; `OUTPUTS` is the gateway's table for them.
"""

import contextlib
import json
import socket
import struct
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.launcher import write_model

OUTPUTS = "echo/y classes\nbatches/y classes\n"
TENSORS = 'backend: "python" {batch}\n' + "\n".join(
    f'{section} {{{{ name: "{name}" data_type: {{type}} dims: {{dims}} }}}}'
    for section, name in (("input", "x"), ("output", "y"))
)
MODELS = {
    "echo": TENSORS.format(batch="", type="TYPE_FP32", dims=1),
    "batches": TENSORS.format(batch="max_batch_size: 8", type="TYPE_FP32", dims=1),
    "loose": TENSORS.format(batch="", type="TYPE_FP32", dims=-1),
    "words": TENSORS.format(batch="", type="TYPE_STRING", dims=-1),
}
TIMEOUT_S = 60


def publish(repository: Path) -> None:
    for name, config in MODELS.items():
        write_model(repository, name, config=config)


def send(url, *parts, path="/v2/models/echo/infer", **headers):
    """Status of the answer to a POST; None if there is none. parts: of the body."""
    host, _, port = url.rpartition(":")
    head = f"POST {path} HTTP/1.1\r\nhost: {url}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):  # it answered before all was sent
            connection.sendall(head.encode() + b"\r\n")
            for part in parts:
                connection.sendall(part)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while b"\r\n" not in answer and (piece := connection.recv(4096)):
                answer += piece
        return int(answer.split()[1]) if answer else None


def post(url, body, path="/v2/models/echo/infer", **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return send(
        url, body, path=path, **{"content_type": "application/json", "content_length": len(body), **headers}
    )


def infer(url, model, datatype, shape, data, classes=1):
    entry = {"name": "x", "datatype": datatype, "shape": shape, "data": data}
    output = {"name": "y", "parameters": {"classification": classes}} if classes else {"name": "y"}
    return post(url, {"inputs": [entry], "outputs": [output]}, f"/v2/models/{model}/infer")


def form(path):
    return lambda url: post(url, b"a" * 6_000_000, path, content_type="application/x-www-form-urlencoded")


def chunks(path):
    body = b"1\r\na\r\n" * 600_000 + b"0\r\n\r\n"
    return lambda url: send(url, body, path=path, transfer_encoding="chunked")


def chunks_of_json(url):
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"inputs":[' + b" " * 600_000 + b"]}") + b"0\r\n\r\n"
    return send(url, body, transfer_encoding="chunked", content_type="application/json")


def nested(path):
    return lambda url: post(url, b'{"inputs":' + b"[" * 160_000 + b"]" * 160_000 + b"}", path)


INDEX, LOGGING = "/v2/repository/index", "/v2/logging"
MEMORY = "/v2/systemsharedmemory/region/r/register"
INFER = "/v2/models/echo/infer"
HTTP = {
    "a form, infer": (form(INFER), [415]),
    "a form, index": (form(INDEX), [415]),
    "a form, live": (form("/v2/health/live"), [415]),
    "chunks, infer": (chunks(INFER), [411]),
    "chunks, index": (chunks(INDEX), [411]),
    "chunks, shared memory": (chunks(MEMORY), [411]),
    "chunks, logging": (chunks(LOGGING), [411]),
    "chunks of JSON": (chunks_of_json, [411]),
    "nested, infer": (nested(INFER), [400]),
    "nested, index": (nested(INDEX), [413]),
    "classes of BYTES": (lambda url: infer(url, "words", "BYTES", [1], ["a"]), [400]),
    "classes of nothing": (lambda url: infer(url, "loose", "FP32", [0], []), [400]),
    "classes of an empty batch": (lambda url: infer(url, "batches", "FP32", [0, 1], []), [400]),
    "a shape beyond memory": (lambda url: infer(url, "loose", "FP32", [2**40], [1], classes=0), [413]),
}


def call(model, datatype, shape, classes=1, **parameters):
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, value in parameters.items():
        which = "string_param" if isinstance(value, str) else "int64_param"
        setattr(request.inputs[0].parameters[name], which, value)
    output = request.outputs.add(name="y")
    if classes:
        output.parameters["classification"].int64_param = classes
    if not parameters:
        request.raw_input_contents.append(struct.pack("<I", 1) + b"a" if datatype == "BYTES" else bytes(4))
        if 0 in shape:
            request.raw_input_contents[0] = b""
    return request


def unary(request):
    def status(url):
        with grpc.insecure_channel(url) as channel:
            try:
                service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

    return status


def stream(request):
    def status(url):
        with grpc.insecure_channel(url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                answers = list(stub.ModelStreamInfer(iter([request]), timeout=TIMEOUT_S))
            except grpc.RpcError as error:
                return error.code().name
            refused = (
                "(refused by the gateway)" in answers[0].error_message
            )  # where HAProxy could only cut it off
            return "INVALID_ARGUMENT" if refused else answers[0].error_message or "OK"

    return status


WRONG = ["INVALID_ARGUMENT"]
CLASSES = {
    "BYTES": call("words", "BYTES", [1]),
    "nothing": call("loose", "FP32", [0]),
    "an empty batch": call("batches", "FP32", [0, 1]),
}
GRPC = {
    **{f"classes of {what}": (unary(request), WRONG) for what, request in CLASSES.items()},
    **{f"classes of {what}, streamed": (stream(request), WRONG) for what, request in CLASSES.items()},
    "shared memory": (
        unary(call("echo", "FP32", [1], 0, shared_memory_region="r", shared_memory_byte_size=4)),
        WRONG,
    ),
}
