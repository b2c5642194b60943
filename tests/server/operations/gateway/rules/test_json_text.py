"""What the JSON of a request may be: the reader alone, fed whole, cut at each place, and byte by byte."""

import json
import random

import pytest

from tests.rules import Lua, pieces_of

CLASSES = {("m", "probabilities")}
X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2e9]}
P = {"name": "probabilities", "parameters": {"classification": 3}}


@pytest.fixture(scope="module")
def lua():
    return Lua(CLASSES)


def verdict(lua, text, model="m"):
    """What is wrong with it, the same however it is cut; None if nothing."""
    text = (
        text
        if isinstance(text, bytes)
        else text.encode()
        if isinstance(text, str)
        else json.dumps(text).encode()
    )
    verdicts = {lua.json(pieces, model) for pieces in pieces_of(text)}
    assert len(verdicts) == 1, (text, verdicts)
    return verdicts.pop()


@pytest.mark.parametrize(
    "text",
    [
        {"inputs": [X]},
        {"inputs": [X], "outputs": [P, {"name": "text"}], "id": "1", "parameters": {"priority": 1}},
        {"outputs": [{"parameters": {"classification": 1, "binary_data": False}, "name": "probabilities"}]},
        {"inputs": [{**X, "data": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]}]},
        {"inputs": [{**X, "datatype": "BYTES", "data": ['a"\\', "classification", "größe", "\u0001"]}]},
        {"inputs": [{**X, "data": [True, False, None]}], "outputs": []},
        b' {\n"inputs" : [ { "name":"x" , "shape":[ 1 , 2 ],"data":[NaN,Infinity,-1E+5] } ] \t}\r\n',
        b"{}",
        b"[]",
        b'{"inputs":[{"name":"x","shape":[0,3],"data":[]}]}',
    ],
)
def test_taken(lua, text):
    assert verdict(lua, text) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"", b"malformed"),
        (b"5", b"malformed"),
        (b"{", b"malformed"),
        (b"{]", b"malformed"),
        (b"{}}", b"malformed"),
        (b"{}{}", b"malformed"),
        (b"{}\0", b"malformed"),
        (b"\xef\xbb\xbf{}", b"malformed"),
        (b'{"a"', b"malformed"),
        (b'{"a" 1}', b"malformed"),
        (b'{"a":}', b"malformed"),
        (b'{"a":1 2}', b"malformed"),
        (b'{a:1}', b"malformed"),
        (b'{"a":1}/**/', b"malformed"),
        (b'{"a":"\n"}', b"malformed"),
        (b'{"a":"\0"}', b"malformed"),
        (b"[" * 33, b"malformed"),
        (b'{"a":' * 33, b"malformed"),
        (b'{"\\u0061":1}', b"malformed"),
        (b'{"a":1,"a":2}', b"malformed"),
        ({"inputs": [{**X, "x" * 300: 1}]}, b"malformed"),
        # classes
        ({"outputs": [{**P, "name": "text"}]}, b"forbidden"),
        ({"outputs": [{"parameters": {"classification": 1}, "name": "text"}]}, b"forbidden"),
        ({"outputs": [{"parameters": {"classification": 1}}]}, b"forbidden"),
        ({"outputs": [{**P, "name": ["probabilities"]}]}, b"malformed"),
        ({"outputs": [P, {**P, "name": "text"}]}, b"forbidden"),
        ({"inputs": [{**X, "shape": [0, 2]}], "outputs": [P]}, b"forbidden"),
        ({"outputs": [P], "inputs": [{**X, "shape": [0, 2]}]}, b"forbidden"),
        (b'{"outputs":[{"name":"text","parameters":{"\\u0063lassification":1}}]}', b"malformed"),
        (b'{"outputs":[{"name":"t\\u0065xt","parameters":{"classification":1}}]}', b"malformed"),
        (b'{"outputs":[{"name":"","name":"probabilities","parameters":{"classification":1}}]}', b"malformed"),
        (b'{"outputs":[],"outputs":[{"name":"text","parameters":{"classification":1}}]}', b"malformed"),
        (b'{"outputs":[{"name":"text","parameters":{},"parameters":{"classification":1}}]}', b"malformed"),
        (b'{"outputs":{"name":"text","parameters":{"classification":1}}}', b"malformed"),
        (b'{"outputs":[[{"name":"text","parameters":{"classification":1}}]]}', b"malformed"),
        (b'{"outputs":[{"name":"text","parameters":[{"classification":1}]}]}', b"malformed"),
        ({"inputs": [{**X, "parameters": {"classification": 1}}]}, b"malformed"),
        ({"parameters": {"classification": 1}}, b"malformed"),
        # shared memory
        ({"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}]}, b"forbidden"),
        ({"outputs": [{"name": "text", "parameters": {"shared_memory_byte_size": 1}}]}, b"forbidden"),
        # shapes
        ({"inputs": [{**X, "shape": [2**40]}]}, b"size"),
        ({"inputs": [{**X, "shape": [2**32, 2**32]}]}, b"size"),
        ({"inputs": [{**X, "shape": [0, 2**62]}]}, b"size"),
        ({"inputs": [{**X, "shape": [4096, 4096, 4096]}]}, b"size"),
        ({"inputs": [{**X, "shape": [-1]}]}, b"malformed"),
        ({"inputs": [{**X, "shape": [1e300]}]}, b"malformed"),
        ({"inputs": [{**X, "shape": ["1"]}]}, b"malformed"),
        ({"inputs": [{**X, "shape": [[1]]}]}, b"malformed"),
        ({"inputs": [{**X, "shape": [1] * 65}]}, b"malformed"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": -1}}]}, b"malformed"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": "5"}}]}, b"malformed"),
    ],
)  # fmt: skip
def test_refused(lua, text, kind):
    assert verdict(lua, text) == kind


def test_many_names(lua):
    assert lua.json([json.dumps({"inputs": [{"name": "x"}] * 5000}).encode()], "m") == b"malformed"


def test_other_json_is_only_deep_or_not(lua):
    assert (
        verdict(
            lua, {"text_input": "x", "outputs": [{"name": "text", "parameters": {"classification": 1}}]}, None
        )
        is None
    )
    assert verdict(lua, b'{"a":' * 33, None) == b"malformed"


def test_shared_memory_where_it_is_allowed():
    lua = Lua(CLASSES, shared_memory=True)
    assert verdict(lua, {"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}]}) is None


@pytest.mark.slow
def test_sees_the_structure_that_a_parser_sees(lua):
    """JSON with random changes: what Python's parser takes, and is forbidden, is never let through."""
    choose = random.Random(1)
    seeds = [
        {"inputs": [X], "outputs": [{"name": "text", "parameters": {"classification": 1}}]},
        {"inputs": [{**X, "shape": [0, 1]}], "outputs": [P, {"name": "text"}]},
        {
            "outputs": [{"parameters": {"binary_data": True, "classification": 2}, "name": "other"}],
            "inputs": [],
        },
    ]
    taken = parsed = 0
    for _ in range(20_000):
        text = bytearray(json.dumps(choose.choice(seeds)).encode())
        for _ in range(choose.randrange(4)):
            at = choose.randrange(len(text))
            kind = choose.randrange(3)
            piece = choose.choice(
                [b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b" ", b"1", b'"a":1,', b"{},", b"[1],"]
            )
            text[at : at + (kind > 0)] = b"" if kind == 1 else piece
        cut = choose.randrange(len(text))
        wrong = lua.json([bytes(text[:cut]), bytes(text[cut:])], "m")
        taken += wrong is None
        try:
            request = json.loads(text)
        except ValueError:
            continue
        parsed += 1
        assert wrong or not ends_triton(request), text
    assert parsed > 1000
    assert taken > 100


def ends_triton(request):
    """Whether Triton would be asked for classes of an output that is not fit for them."""
    if not isinstance(request, dict) or not isinstance(request.get("outputs"), list):
        return False
    inputs = request.get("inputs")
    shapes = (
        [entry.get("shape") for entry in inputs if isinstance(entry, dict)]
        if isinstance(inputs, list)
        else []
    )
    is_empty = any(isinstance(shape, list) and 0 in shape for shape in shapes)
    for output in request["outputs"]:
        if isinstance(output, dict) and isinstance(output.get("parameters"), dict):
            fit = output.get("name") == "probabilities" and not is_empty
            if output["parameters"].get("classification") and not fit:
                return True
    return False
