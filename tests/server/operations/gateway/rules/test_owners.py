"""Whose sequences are: what requests say of theirs, and what another tenant is told."""

import json

import pytest
from tritonclient.grpc import service_pb2

from tests.rules import Lua, pieces_of
from tests.server.operations.gateway.rules.test_grpc_messages import field, framed

LIVES_S, ENDED_S, MOST = 3600, 5, 1000


@pytest.fixture
def lua():
    return Lua()


def message(**values):
    request = service_pb2.ModelInferRequest(model_name="counter")
    entry = request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    entry.parameters["sequence_id"].int64_param = 1  # of a tensor: Triton takes no notice of it
    for name, (kind, value) in values.items():
        setattr(request.parameters[name], kind, value)
    request.raw_input_contents.append(b"sequence_id\x12\x02\x10\x02")
    return request.SerializeToString(deterministic=True)


def entry(*values):
    """A parameter of the request called sequence_id, as bytes."""
    return field(4, field(1, b"sequence_id") + b"".join(field(2, value) for value in values))


MODEL = field(1, b"counter")
SEVEN, EIGHT = b"\x10\x07", b"\x10\x08"


@pytest.mark.parametrize(
    ("body", "claims"),
    [
        (message(sequence_id=("int64_param", 7)), [(b"7", False)]),
        (message(sequence_id=("uint64_param", 2**64 - 1)), [(b"18446744073709551615", False)]),
        (message(sequence_id=("int64_param", -1)), [(b"18446744073709551615", False)]),  # the same to Triton
        (message(sequence_id=("string_param", "a b")), [(b"a b", False)]),
        (message(sequence_id=("string_param", "0")), [(b"0", False)]),
        (message(sequence_id=("string_param", "x" * 200)), [(b"x" * 200, False)]),
        (message(sequence_id=("int64_param", 7), sequence_end=("bool_param", True)), [(b"7", True)]),
        (message(sequence_end=("bool_param", True), sequence_id=("int64_param", 7)), [(b"7", True)]),
        (message(sequence_id=("int64_param", 7), sequence_end=("bool_param", False)), [(b"7", False)]),
        (message(sequence_id=("int64_param", 0)), []),
        (message(sequence_id=("string_param", "")), []),
        (message(), []),
        (MODEL + field(4, field(2, SEVEN) + field(1, b"sequence_id")), [(b"7", False)]),  # the value first
        (MODEL + field(4, field(2, b"x" * 5000) + field(1, b"other")), []),
    ],
)
def test_what_a_message_says(lua, body, claims):
    for pieces in pieces_of(framed(body)):
        lua.claims.clear()
        assert lua.grpc(pieces) is None
        assert lua.claims == [(b"alice", *claim) for claim in claims]


@pytest.mark.parametrize(
    "body",
    [
        MODEL + entry(SEVEN) + entry(EIGHT),
        MODEL + entry(SEVEN, EIGHT),
        MODEL + entry(SEVEN + EIGHT),
        MODEL + entry(b""),
        MODEL + entry(b"\x08\x01"),  # a bool
        MODEL + entry(b"\x10\x87\x00"),  # longer than it need be
        MODEL + entry(b"\x1a\x05abc"),
        MODEL + entry(b"\x1a\x03a\0b"),
        MODEL + entry(b"\x1a\xac\x02" + b"x" * 300),
        MODEL + entry(SEVEN, b"\x1a\xac\x02" + b"x" * 300),
        MODEL + entry(b"\x1a\xac\x02" + b"x" * 300, SEVEN),
    ],
)
def test_a_message_says_it_in_one_way(lua, body):
    assert {lua.grpc(pieces) for pieces in pieces_of(framed(body))} == {b"malformed"}
    assert lua.claims == []


@pytest.mark.parametrize(
    ("more", "claims"),
    [
        ({"parameters": {"sequence_id": 7}}, [(b"7", False)]),
        ({"parameters": {"sequence_id": "7"}}, [(b"7", False)]),
        ({"parameters": {"sequence_id": "0"}}, [(b"0", False)]),
        ({"parameters": {"sequence_id": 7, "sequence_end": True}}, [(b"7", True)]),
        (
            {"parameters": {"sequence_end": "true", "sequence_id": 2**64 - 1}},
            [(b"18446744073709551615", False)],
        ),
        ({"parameters": {"sequence_id": 0}}, []),
        ({"parameters": {"sequence_id": ""}}, []),
        ({"sequence_id": 7, "id": '"sequence_id": 8', "outputs": [{"parameters": {"sequence_id": 9}}]}, []),
    ],
)
def test_what_json_says(lua, more, claims):
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1], "parameters": {"sequence_id": 1}}
    for pieces in pieces_of(json.dumps({"inputs": [tensor], **more}).encode()):
        lua.claims.clear()
        assert lua.body(pieces, "counter") is None
        assert lua.claims == [(b"alice", *claim) for claim in claims]


@pytest.mark.parametrize("value", ["-1", "7.0", "7e0", "[7]", "{}", '"\\u0037"', '7, "sequence_id": 8'])
def test_json_says_it_in_one_way(lua, value):
    body = f'{{"inputs": [], "parameters": {{"sequence_id": {value}}}}}'.encode()
    assert {lua.body(pieces, "counter") for pieces in pieces_of(body)} == {b"malformed"}
    assert lua.claims == []


class Store:
    """What all threads share, and their clock."""

    def __init__(self):
        self.kept, self.now_s, self.looks = {}, 1000, 0

    def get(self, key):
        self.looks += 1
        return self.kept.get(key)

    def owners(self, lua):
        functions = {
            b"get": self.get,
            b"set": self.kept.__setitem__,
            b"remove": lambda key: self.kept.pop(key, None),
            b"now": lambda: self.now_s,
        }
        claim = lua.runtime.eval(
            b"""function(store)
                local owners = require('owners').new(store)
                return function(tenant, id, ends)
                  local wrong = owners:claim(tenant, id, ends)
                  return wrong and wrong[1]
                end
            end"""
        )
        return claim(lua.runtime.table_from(functions))


def test_the_first_tenant_has_it_until_it_ends(lua):
    store = Store()
    one, other = store.owners(lua), store.owners(lua)  # two threads
    assert one(b"alice", b"7", False) is None
    assert one(b"bob", b"7", False) == other(b"bob", b"7", True) == b"owned"
    assert other(b"alice", b"7", False) is None
    assert one(b"alice", b"7", True) is None
    assert other(b"bob", b"7", False) == b"owned"  # what alice sent at the same time may still come
    store.now_s += ENDED_S
    assert other(b"bob", b"7", False) is None
    assert one(b"alice", b"7", False) == b"owned"


def test_each_request_keeps_it_for_an_hour(lua):
    store = Store()
    claim = store.owners(lua)
    for _ in range(5):
        assert claim(b"alice", b"7", False) is None
        store.now_s += LIVES_S - 61
        assert claim(b"bob", b"7", False) == b"owned"
    store.now_s += LIVES_S
    assert claim(b"bob", b"7", False) is None


def test_a_tenant_has_not_too_many(lua):
    store = Store()
    claim = store.owners(lua)
    for number in range(MOST):
        assert claim(b"alice", b"%d" % number, number % 2 == 0) is None
    assert claim(b"alice", b"more", False) == b"many"
    assert claim(b"bob", b"more", False) is None
    assert claim(b"alice", b"1", False) is None  # goes on
    store.now_s += ENDED_S
    for number in range(MOST // 2):
        assert claim(b"alice", b"new %d" % number, False) is None
    assert claim(b"alice", b"one more", False) == b"many"
    assert len(store.kept) == MOST + 1


def test_who_has_too_many_costs_little(lua):
    store = Store()
    claim = store.owners(lua)
    for number in range(MOST):
        claim(b"alice", b"%d" % number, False)
    store.looks = 0
    for number in range(MOST):
        assert claim(b"alice", b"more %d" % number, False) == b"many"
    assert store.looks < 3 * MOST  # all were looked at once, not each time
    store.now_s += LIVES_S
    assert claim(b"alice", b"more", False) is None


def test_what_has_ended_is_forgotten(lua):
    store = Store()
    claim = store.owners(lua)
    for number in range(10):
        assert claim(b"alice", b"%d" % number, False) is None
        assert claim(b"alice", b"%d" % number, True) is None
    store.now_s += ENDED_S
    assert claim(b"alice", b"0", False) is None  # anew: it goes on
    for number in range(5):
        assert claim(b"bob", b"new %d" % number, False) is None
    assert sorted(store.kept) == [b"0", *(b"new %d" % number for number in range(5))]
