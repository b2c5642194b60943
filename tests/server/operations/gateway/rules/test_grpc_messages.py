"""What a gRPC call may carry: the reader alone, fed whole, in halves of every size, and byte by byte."""

import random
import struct

import pytest
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from tests.rules import Lua, pieces_of


@pytest.fixture(scope="module")
def lua():
    return Lua({("m", "probabilities")})


def framed(*messages, compressed=0):
    return b"".join(struct.pack(">BI", compressed, len(message)) + message for message in messages)


def field(number, content=b"", wire=2):
    """A field of a length, or with another wire type its bytes as they are."""
    return bytes([number << 3 | wire]) + (length(len(content)) if wire == 2 else b"") + content


def length(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def verdict(lua, body, **options):
    verdicts = {lua.grpc(pieces, **options) for pieces in pieces_of(body)}
    assert len(verdicts) == 1, (body, verdicts)
    return verdicts.pop()


def request(output="probabilities", shape=(1, 2), classes=3, **parameters):
    message = service_pb2.ModelInferRequest(model_name="m", model_version="1", id="a")
    message.parameters["priority"].uint64_param = 1
    entry = message.inputs.add(name="x", datatype="FP32", shape=shape)
    for name, value in parameters.items():
        entry.parameters[name].string_param = value
    entry = message.outputs.add(name=output)
    if classes:
        entry.parameters["binary_data"].bool_param = True
        entry.parameters["classification"].int64_param = classes
    message.raw_input_contents.append(bytes(8))
    return message.SerializeToString(deterministic=True)


NAME, MODEL = field(1, b"text"), field(1, b"m")
CLASSIFIED = field(2, field(1, b"classification") + field(2, b"\x10\x01"))
TEXT = field(6, NAME + CLASSIFIED)
LATE_KEY = field(2, field(2, b"\x10\x01") + field(1, b"classification"))
TWO_KEYS = field(2, field(1, b"a") + field(1, b"classification"))
GOOD = request()


@pytest.mark.parametrize(
    "body",
    [
        framed(GOOD),
        framed(request("text", classes=0)),
        framed(request(shape=[0], classes=0)),
        framed(request(shape=range(1, 4))),
        framed(b""),
        framed(field(7, bytes(300)) + field(6, CLASSIFIED + field(1, b"probabilities")) + MODEL),
        framed(MODEL + field(5, field(1, b"x") + field(3, b"\x05", 0) + field(5, field(6, bytes(200))))),
    ],
)
def test_taken(lua, body):
    assert verdict(lua, body) is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", b"malformed"),
        (b"\0\0\0\0", b"malformed"),
        (framed(GOOD)[:-1], b"malformed"),
        (framed(GOOD) + b"\0", b"malformed"),
        (framed(GOOD, GOOD), b"malformed"),
        (framed(GOOD, compressed=1), b"compressed"),
        (framed(GOOD, compressed=2), b"compressed"),
        (b"\0\xff\xff\xff\xff", b"size"),
        (framed(field(8, b"")), b"malformed"),
        (framed(b"\xba\x06\x00"), b"malformed"),  # field 103
        (framed(b"\x8a\x00\x01m"), b"malformed"),  # field 1, in more bytes than needed
        (framed(b"\x0a\x81\x00m"), b"malformed"),  # its length in more than needed
        (framed(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), b"malformed"),
        (framed(b"\x0a\x05m"), b"malformed"),  # longer than the message
        (framed(b"\x0a"), b"malformed"),
        (framed(b"\x0a\x80"), b"malformed"),
        (framed(b"\x0b\x0c"), b"malformed"),  # a group
        (framed(b"\x08\x01"), b"malformed"),  # a wrong wire type
        (framed(MODEL + MODEL), b"malformed"),
        (framed(field(1, b"m" * 257)), b"malformed"),
        (framed(field(1, b"m\0x")), b"malformed"),
        (framed(field(1, b"m\n")), b"malformed"),
        (framed(MODEL + field(6, field(1, b"probabilities\0text"))), b"malformed"),
        (framed(MODEL + field(4, field(1, b"sequence_id\0"))), b"malformed"),
        # classes
        (framed(request("text")), b"forbidden"),
        (framed(request(shape=[0])), b"forbidden"),
        (framed(MODEL + TEXT), b"forbidden"),
        (framed(TEXT + MODEL), b"forbidden"),
        (framed(TEXT), b"forbidden"),
        (framed(field(7, bytes(300)) + TEXT + MODEL), b"forbidden"),
        (framed(MODEL + field(6, CLASSIFIED + NAME)), b"forbidden"),
        (framed(MODEL + field(6, field(1, b"probabilities") + NAME + CLASSIFIED)), b"malformed"),
        (framed(MODEL + field(6, NAME + LATE_KEY)), b"forbidden"),
        (framed(MODEL + field(6, NAME + TWO_KEYS)), b"malformed"),
        (framed(MODEL + field(6, NAME + field(3, b""))), b"malformed"),
        (framed(MODEL + field(5, CLASSIFIED.replace(b"\x12", b"\x22", 1))), b"malformed"),  # of an input
        # shared memory
        (framed(request(shared_memory_region="r")), b"forbidden"),
        # shapes
        (framed(request(shape=[2**40])), b"size"),
        (framed(request(shape=[2**62] * 4)), b"size"),
        (framed(request(shape=[-1])), b"size"),
        (framed(request(shape=[0, -5], classes=0)), b"size"),
        (framed(request(shape=[1] * 65)), b"malformed"),
        (framed(MODEL + field(5, field(3, b"\x80"))), b"malformed"),
        (framed(MODEL + field(5, field(3, b"\x80\x80\x80\x80\x08", 0) * 2)), b"size"),
    ],
)  # fmt: skip
def test_refused(lua, body, kind):
    assert verdict(lua, body) == kind


def test_a_stream_has_many_messages_or_none(lua):
    assert verdict(lua, framed(GOOD, request("text", classes=0), GOOD), streams=True) is None
    assert lua.grpc([b""], streams=True) is None
    assert lua.grpc([framed(GOOD, GOOD, request("text"))], streams=True) == b"forbidden"


def test_other_calls_are_counted(lua):
    assert verdict(lua, framed(b"anything"), infers=False, most_bytes=8) is None
    assert verdict(lua, framed(b"something"), infers=False, most_bytes=8) == b"size"


def test_sees_what_protobuf_sees(lua):
    """Requests with random changes: what protobuf reads, and is forbidden, is never let through."""
    choose = random.Random(1)
    seeds = [
        GOOD,
        request("text"),
        request("text", classes=0),
        request(shape=[0]),
        request(shared_memory_region="r"),
    ]
    taken = read = 0
    for _ in range(20_000):
        body = bytearray(choose.choice(seeds))
        for _ in range(choose.randrange(4)):
            at, kind = choose.randrange(len(body)), choose.randrange(4)
            if kind == 3:  # pieces change places
                other = choose.randrange(len(body))
                body = body[other:] + body[:other]
            else:
                new = choose.choice([TEXT, CLASSIFIED, NAME, MODEL, b"\x0b", b"\x80", choose.randbytes(1)])
                body[at : at + (kind > 0)] = b"" if kind == 1 else new
        whole = framed(bytes(body))
        cut = choose.randrange(len(whole))
        wrong = lua.grpc([whole[:cut], whole[cut:]])
        taken += wrong is None
        try:
            message = service_pb2.ModelInferRequest.FromString(bytes(body))
        except DecodeError:
            continue
        read += 1
        assert wrong or not is_forbidden(message), bytes(body)
    assert read > 1000
    assert taken > 1000


def is_forbidden(message):
    tensors = [*message.inputs, *message.outputs]
    if any(name.startswith("shared_memory") for tensor in tensors for name in tensor.parameters):
        return True
    is_empty = any(0 in entry.shape for entry in message.inputs)
    return any(
        "classification" in output.parameters
        and (message.model_name != "m" or output.name != "probabilities" or is_empty)
        for output in message.outputs
    )


def test_many_fields(lua):
    assert lua.grpc([framed(MODEL + field(7) * 5000)]) == b"malformed"
