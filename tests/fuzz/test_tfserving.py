"""Hostile requests over TensorFlow Serving's interfaces: each gets an answer, and the gateway lives on.

FUZZ_TFSERVING: how many (default: 1000).
"""

import json
import os
import random
import socket

import grpc
import numpy as np
import pytest
import requests

from server.tfserving.wire.messages import message
from tests import sanitized
from tests.launcher import Launcher
from tests.processes import command_line, descendants, resident_bytes
from tests.server.tfserving.conftest import addresses, options
from tests.tfserving import SERVICES, Client, example, fill_content, fill_values, request, write_models

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("FUZZ_TFSERVING", "1000"))
SEED = 17
GROWTH_BYTES = 64 * 2**20  # the interpreter's own heap, after requests of up to 8 MiB
METHODS = {name: kinds for methods in SERVICES.values() for name, kinds in methods.items()}
NAMES = ("echo", "pair", "half", "half_plus_two", "nobody", "", "a/b", "..", "n" * 5000, "\0", "ä", "half:1")
CODES = {
    *("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"),
    *(
        "OK",
        "INTERNAL",
        "UNAVAILABLE",
    ),  # the latter of bytes that are no message; of what Triton has no room for
}
SIZES = (0, 1, 2, 3, -1, -(2**63), 2**31, 2**40, 2**63 - 1)


def wild_tensor(tensor, chance):
    """A tensor of which something is wrong, or everything."""
    tensor.dtype = chance.choice((0, *range(24), 101, -1, 2**31 - 1))
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 300))):
        tensor.tensor_shape.dim.add(size=chance.choice(SIZES))
    tensor.tensor_shape.unknown_rank = chance.random() < 0.1
    match chance.randrange(5):
        case 0:
            tensor.tensor_content = chance.randbytes(chance.choice((0, 1, 4, 24, 5000)))
        case 1:
            tensor.float_val.extend([float("nan"), 1e38, -0.0])
            tensor.bool_val.append(True)
        case 2:
            tensor.string_val.extend([b"", chance.randbytes(70), b"\xff"])
        case 3:
            tensor.int_val.extend([-(2**31), 2**31 - 1])
            tensor.half_val.append(-1)
        case 4:
            tensor.uint64_val.append(2**64 - 1)
            tensor.int64_val.append(-(2**63))


def predict(chance):
    asked = request(
        "Predict", chance.choice(NAMES), signature=chance.choice(("", "serving_default", "plus_two", "z"))
    )
    if chance.random() < 0.3:
        asked.model_spec.version.value = chance.choice((0, 1, 2, -1, 2**63 - 1))
    elif chance.random() < 0.3:
        asked.model_spec.version_label = chance.choice(("stable", "", "n" * 5000, "\n"))
    for name in chance.sample(("x", "numbers", "name", "DT_STRING", "DT_HALF", "DT_BOOL", "z" * 3000), 2):
        match chance.randrange(4):
            case 0:
                write = chance.choice((fill_content, fill_values))
                write(asked.inputs[name], np.zeros(chance.choice(((1,), (1, 2), (9, 2), (0, 2), (2, 0)))))
            case 1:
                fill_content(asked.inputs[name], np.array([[chance.randbytes(9)]], object))
            case _:
                wild_tensor(asked.inputs[name], chance)
    asked.output_filter.extend(
        chance.choices(("y", "scores", "", "z" * 9000), k=chance.choice((0, 0, 0, 1, 2)))
    )
    return asked


def with_examples(chance):
    rows = [
        chance.choice(
            (
                example(x=[1.0]),
                example(x=[2**62]),
                example(x=[b"x"]),
                example(numbers=[1.0, 2.0], name=[b"n"]),
                example(numbers=[1.0] * 999, name=[b""]),
                example(DT_STRING=[b"\xff"]),
                message("tensorflow.Example")(),
            )
        )
        for _ in range(chance.choice((0, 1, 2, 20)))
    ]
    method = chance.choice(("Classify", "Regress", "MultiInference"))
    if method == "MultiInference":
        asked = message("tensorflow.serving.MultiInferenceRequest")()
        for _ in range(chance.choice((0, 1, 2, 9))):
            task = asked.tasks.add(method_name=chance.choice(("tensorflow/serving/regress", "", "classify")))
            task.model_spec.name = chance.choice(NAMES)
            task.model_spec.signature_name = chance.choice(("", "plus_two", "z"))
    else:
        asked = request(method, chance.choice(NAMES))
    if chance.random() < 0.5:
        asked.input.example_list.examples.extend(rows)
    else:
        asked.input.example_list_with_context.examples.extend(rows)
        asked.input.example_list_with_context.context.CopyFrom(example(name=[b"c"]))
    return method, asked


def over_grpc(chance):
    """A method, and bytes for it: as they are, damaged, or of another method."""
    method, asked = ("Predict", predict(chance)) if chance.random() < 0.6 else with_examples(chance)
    body = bytearray(asked.SerializeToString())
    match chance.randrange(6):
        case 0 if body:
            for _ in range(chance.randint(1, 8)):
                body[chance.randrange(len(body))] = chance.randrange(256)
        case 1:
            del body[chance.randrange(len(body) + 1) :]
        case 2:
            method = chance.choice(tuple(METHODS))
        case 3:
            body = bytearray(chance.randbytes(chance.choice((1, 10, 3000))))
    return method, bytes(body)


VALUES = (
    "1",
    "1.5",
    "NaN",
    "-Infinity",
    "1e999",
    "null",
    "true",
    '"a"',
    '"\\ud800"',
    '{"b64": "AA=="}',
    "[]",
    "{}",
)
VALUES += (
    '{"b64": 1}',
    "[[1], 2]",
    "9" * 400,
    "9" * 6000,
    "[" * 3000,
    "[" * 200 + "]" * 200,
    '{"x": 1}',
    "[1, 2]",
    "-",
)


def over_http(chance):
    """Bytes of a connection: a request with a wild document, or no HTTP at all."""
    keys = ("instances", "inputs", "examples", "context", "signature_name", "x", "numbers", "name", "\\u0000")
    members = (f'"{chance.choice(keys)}": {wild_value(chance)}' for _ in range(chance.randint(0, 3)))
    body = "{" + ", ".join(members) + "}"
    if chance.random() < 0.1:
        body = body[: chance.randrange(len(body) + 1)]
    body = body.encode("utf-8", "surrogatepass")
    place = chance.choice(
        ("", "/versions/1", "/versions/99999999999999999999", "/labels/stable", "/labels/%ff", "/x")
    )
    verb = chance.choice((":predict", ":classify", ":regress", ":PREDICT", "/metadata", "", ":", "/../.."))
    name = chance.choice(
        ("half", "half_plus_two", "pair", "echo", "nobody", "%00", "%F0%9F%98%80", "n" * 3000)
    )
    method = chance.choice(("POST", "POST", "POST", "GET", "PUT", "OPTIONS"))
    head = [f"{method} /v1/models/{name}{place}{verb} HTTP/1.1", "Host: x", "Connection: close"]
    match chance.randrange(12):
        case 0:
            head += [f"X-{number}: {'h' * 100}" for number in range(2000)]
        case 1:
            head.append("Transfer-Encoding: chunked")
            body = chance.choice(
                (b"5\r\n{}   \r\n0\r\n\r\n", b"zz\r\n", b"ffffffffffffffff\r\n{}", b"1\r\n{\r\n" * 500)
            )
        case 2:
            head += [f"Content-Length: {len(body)}", "Content-Encoding: gzip"]
        case 3:
            head.append(f"Content-Length: {chance.choice(('-1', 'x', str(2**70), '1, 2', str(9 * 2**20)))}")
        case 4:
            return chance.randbytes(chance.choice((1, 100, 5000))) + b"\r\n\r\n"
        case _:
            head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def wild_value(chance):
    one = chance.choice(VALUES)
    return f"[{', '.join([one] * chance.choice((1, 2, 500)))}]" if chance.random() < 0.6 else one


def answer_to(address, sent):
    """The first line of what comes back; b"" where the connection was closed without a word."""
    host, port = address.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return connection.makefile("rb").readline()
        except OSError:  # it hung up meanwhile
            return b""


def code_of(client, method, body):
    try:
        getattr(client, method)(body, timeout=120)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def gateway_of(launcher):
    """Its process."""
    found = [pid for pid in descendants(launcher.process.pid) if b"server.tfserving" in command_line(pid)]
    (pid,) = found
    return pid


@pytest.fixture
def attacked(tmp_path):
    write_models(tmp_path / "models")
    with Launcher(tmp_path / "models", tmp_path / "log", *options(tmp_path)) as launcher:
        yield launcher


def test_hostile_requests(attacked):
    over_grpc_at, rest = addresses(attacked)
    before = attacked.tritonserver(), gateway_of(attacked)
    chance = random.Random(SEED)
    memory = None
    lines, codes = {}, {}
    with Client(over_grpc_at) as client:
        for number in range(COUNT):
            if number == COUNT // 5:
                memory = resident_bytes(before[1])
            if number % 2:
                method, body = over_grpc(chance)
                code = code_of(client, method, body)
                assert code in CODES, f"request {number}, {method}"
                codes[code] = codes.get(code, 0) + 1
            else:
                line = answer_to(rest, over_http(chance)).split(b" ")[1:2]
                status = line[0] if line else b""
                assert status not in (b"500", b"502"), f"request {number}"
                lines[status] = lines.get(status, 0) + 1
        large = np.zeros((2, 2**19), np.float32)  # the largest there may be, again and again
        for _ in range(5):
            client.predict("echo", DT_FLOAT=large)
            body = json.dumps({"instances": [0.5] * 10**6})
            assert requests.post(f"{rest}/v1/models/half:predict", data=body, timeout=120).status_code == 200
            assert answer_to(rest, over_large()).split(b" ")[1] == b"400"
        assert client.predict("half", x=np.float32([3]))["y"].tolist() == [1.5]
    assert lines[b"200"] > 0
    assert lines[b"400"] > COUNT // 20
    assert codes["OK"] > 0
    assert codes["INVALID_ARGUMENT"] > COUNT // 20
    assert (attacked.tritonserver(), gateway_of(attacked)) == before
    assert attacked.count("triton_vision_tfserving_restarts_total") == 0
    if not sanitized.wanted():  # a sanitizer keeps what is freed
        assert resident_bytes(before[1]) - memory < GROWTH_BYTES
    assert "the gateway failed" not in attacked._log.read_text()
    assert "Traceback" not in attacked._log.read_text()


def over_large():
    """8 MiB of JSON that takes many times that in memory."""
    body = b'{"instances": [' + b"[], " * (2 * 10**6 - 9) + b"1]}"
    head = f"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
