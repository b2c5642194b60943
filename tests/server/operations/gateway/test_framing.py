"""Requests whose beginning or end can be read in two ways, and HTTP/2 that is none: by HAProxy alone.

Whoever passes is told that no server is ready: 503.
"""

import re
import socket
import struct

import pytest

from server.operations.gateway.keys import Grant
from tests.gateways import Tenants, alone, ask, needs_haproxy, write_models

pytestmark = needs_haproxy

TWO = {status: [status, 401] for status in (411, 503)}  # in order; the second one has no key
HIDDEN = "GET /v2 HTTP/1.1\r\nhost: g\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
FLOOD_BYTES = 2**20
REFUSED = (404, 400, None)  # by our rules, or by HAProxy 3 before it reads on
STATUS = {b"\x88": 200, b"\x8c": 400, b"\x8d": 404}  # RFC 7541, appendix A


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("framing")
    tenants = Tenants(folder / "keys", Grant("alice", rate=100_000, concurrency=1000))
    with alone(tenants, write_models(folder / "models"), folder / "log") as gateway:
        gateway.key = tenants.keys["alice"]
        yield gateway
        assert not gateway.trouble
        assert ask(gateway.settings.port, "GET", "/v2", tenants["alice"])[0] == 503


def connected(gateway):
    return socket.create_connection(("127.0.0.1", gateway.settings.port), timeout=60)


# --- HTTP/1.1


@pytest.mark.parametrize(
    ("lines", "body", "statuses"),
    [
        ("content-length: 5\r\ntransfer-encoding: chunked", f"0\r\n\r\n{HIDDEN}", [411]),
        ("content-length: 5\r\ntransfer-encoding: CHUNKED", f"0\r\n\r\n{HIDDEN}", [411]),
        ("content-length: 5\r\ntransfer-encoding:\r\n chunked", f"0\r\n\r\n{HIDDEN}", [411]),
        ("content-length: 4\r\ntransfer-encoding: xchunked", f"0\r\n\r\n{HIDDEN}", [400]),
        ("content-length: 4\r\ntransfer-encoding: chunked, identity", f"0\r\n\r\n{HIDDEN}", [400]),
        ("content-length: 4\r\ntransfer-encoding: identity, chunked", f"0\r\n\r\n{HIDDEN}", [422]),
        ("content-length: 4\r\ntransfer-encoding: \x0bchunked", f"0\r\n\r\n{HIDDEN}", [400]),
        ("content-length: 5\r\ntransfer-encoding : chunked", f"0\r\n\r\n{HIDDEN}", [400]),
        ("transfer-encoding: chunked", f"2\r\n{{}}\r\n0\r\nx-api-key: x\r\n\r\n{HIDDEN}", TWO[411]),
        ("content-length: 5\r\ncontent-length: 6", f"12345{HIDDEN}", [400]),
        ("content-length: 5, 6", f"12345{HIDDEN}", [400]),
        ("content-length: +5", f"12345{HIDDEN}", [400]),
        ("content-length: 0x5", f"12345{HIDDEN}", [400]),
        ("content-length: -1", f"12345{HIDDEN}", [400]),
        ("content-length:", f"12345{HIDDEN}", [400]),
        ("content-length: 99999999999999999999", "12345", [400]),
        ("content-length: 2", f"{{}}{HIDDEN}", TWO[503]),
    ],
)
def test_the_end_of_a_request(lines, body, statuses, gateway):
    request = (
        f"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: g\r\nx-api-key: {gateway.key}\r\n"
        f"content-type: application/json\r\n{lines}\r\n\r\n{body}"
    )
    with connected(gateway) as connection:
        connection.sendall(request.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answers = connection.makefile("rb").read()
    told = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", answers)]
    hung_up = [[]] if statuses[:1] == [400] else []  # by HAProxy 3.2, of lengths that it cannot read
    # what comes behind a refusal may get no answer, never another one
    assert told in (statuses, statuses[:1], *hung_up)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://g/v2/repository/index", 405),  # as the path alone
        ("GET http://elsewhere/v2", 400),
        ("GET https://x@y/v2", 400),
        ("GET v2", 400),
        ("GET *", REFUSED),
        ("GET /v2#x", 400),
        ("GET /v2 /x", 400),
        ("CONNECT 127.0.0.1:8000", 400),
        ("TRACE /v2", 405),
        ("GET /v2/models/tiny%2fconfig", 404),
        ("GET /v2/models/tiny%00", 404),
        ("GET /v2/models/tiny;x=1", 404),
        ("GET /v2/models/tiny\\config", 404),
    ],
)
def test_the_first_line(line, status, gateway):
    with connected(gateway) as connection:
        connection.sendall(f"{line} HTTP/1.1\r\nhost: g\r\nx-api-key: {gateway.key}\r\n\r\n".encode())
        told = int(re.match(rb"HTTP/1.1 (\d{3}) ", connection.recv(65536))[1])
    assert told in (status if status == REFUSED else [status])


@pytest.mark.parametrize(("protocol", "status"), [("h2c", 503), ("websocket", 400)])
def test_a_connection_is_not_upgraded(protocol, status, gateway):
    upgrade = {"connection": "upgrade, http2-settings", "upgrade": protocol, "http2-settings": "AAMAAABk"}
    assert ask(gateway.settings.port, "GET", "/v2", {"x-api-key": gateway.key, **upgrade})[0] == status


# --- HTTP/2


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """RFC 7541, 6.2.2, of short names and values."""
    return b"\x00" + b"".join(bytes([len(text)]) + text.encode("latin-1") for text in (name, value))


def block(gateway, *more, **pseudo):
    fields = {"method": "GET", "scheme": "http", "path": "/v2", "authority": "g", **pseudo}
    pairs = [(f":{name}", value) for name, value in fields.items()]
    return b"".join(literal(name, value) for name, value in (*pairs, ("x-api-key", gateway.key), *more))


def frames(stream):
    """What comes, until the other side has no more to say."""
    while len(head := stream.read(9)) == 9:
        payload = stream.read(int.from_bytes(head[:3], "big"))
        yield head[3], payload


def outcome(gateway, *sent):
    """The status of the answer; None where the stream or the connection was ended."""
    with connected(gateway) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + b"".join(sent))
        for kind, payload in frames(connection.makefile("rb")):
            if kind in (RST, GOAWAY):
                return None
            if kind == HEADERS:
                return STATUS.get(payload[:1]) or int(re.search(rb"[45]\d\d", payload)[0])
    return None


@pytest.mark.parametrize(
    ("more", "pseudo", "status"),
    [
        ((), {}, 503),
        ([("x-a", "a\r\nx-b: c")], {}, None),
        ([("x-a", "a\0b")], {}, None),
        ([("x-a\n", "b")], {}, None),
        ([("x a", "b")], {}, None),
        ([("x-a:b", "c")], {}, None),
        ([("X-Upper", "a")], {}, None),
        ([("connection", "upgrade")], {}, None),
        ([("transfer-encoding", "chunked")], {}, None),
        ([("te", "gzip")], {}, None),
        ([(":path", "/v2/x")], {}, None),
        ([(":bogus", "x")], {}, None),
        ((), {"path": "/v2 HTTP/1.1\r\nx: y"}, None),
        ((), {"path": "/v2\0"}, None),
        ((), {"path": "v2"}, None),
        ((), {"path": ""}, None),
        ((), {"path": "http://g/v2"}, None),
        ((), {"path": "/v2#x"}, None),
        ((), {"method": 'GE"T'}, 400),
        ((), {"method": "GET /v2/x"}, 400),
        ((), {"scheme": "h t"}, 400),
        ((), {"authority": "g/v2"}, REFUSED),  # as an absolute form would be read
    ],
)
def test_headers_of_http2(more, pseudo, status, gateway):
    headers = frame(HEADERS, END_STREAM | END_HEADERS, 1, block(gateway, *more, **pseudo))
    assert outcome(gateway, headers) in (status if status == REFUSED else [status])


@pytest.mark.parametrize(("length", "status"), [("2", 503), ("1", None), ("3", None), ("x", None)])
def test_a_length_that_lies(length, status, gateway):
    post = block(
        gateway,
        ("content-type", "application/json"),
        ("content-length", length),
        method="POST",
        path="/v2/models/tiny/infer",
    )
    sent = frame(HEADERS, END_HEADERS, 1, post), frame(DATA, END_STREAM, 1, b"{}")
    assert outcome(gateway, *sent) == status


FLOODS = {
    "rapid reset": lambda gateway, number: (
        frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, block(gateway))
        + frame(RST, 0, 2 * number + 1, struct.pack(">I", 8))
    ),
    "CONTINUATION": lambda gateway, number: (
        frame(CONTINUATION, 0, 1, literal("x-a", "b" * 100) * 50)
        if number
        else frame(HEADERS, END_STREAM, 1, block(gateway))
    ),
    "empty CONTINUATION": lambda gateway, number: (
        frame(CONTINUATION, 0, 1) * 100 if number else frame(HEADERS, END_STREAM, 1, block(gateway))
    ),
    "headers that are 1,000 times as long": lambda gateway, number: frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        2 * number + 1,
        b"\xbe" * 2000 if number else block(gateway) + b"\x40" + literal("x", "y" * 100)[1:],
    ),
    "empty DATA": lambda gateway, number: (
        frame(DATA, 0, 1) * 100
        if number
        else frame(HEADERS, END_HEADERS, 1, block(gateway, ("content-length", "9"), method="POST"))
    ),
    "PRIORITY": lambda gateway, number: frame(PRIORITY, 0, 1, bytes(5)) * 100,
    "unknown frames": lambda gateway, number: frame(99, 0, 0, bytes(100)) * 10,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_keeps_nobody_else_waiting(flood, gateway):
    """It ends with the connection, or with the flood."""
    sent = number = 0
    with connected(gateway) as connection:
        try:
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
            while sent < FLOOD_BYTES:
                piece = FLOODS[flood](gateway, number)
                connection.sendall(piece)
                sent, number = sent + len(piece), number + 1
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert ask(gateway.settings.port, "GET", "/v2", {"x-api-key": gateway.key})[0] == 503
