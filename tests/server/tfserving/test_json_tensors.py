"""Tensors in JSON: every dtype, both ways, without a server."""

import re

import numpy as np
import pytest

from server.tfserving.json_tensors import COLUMN, inputs_of, outputs_as, parsed, shortest
from server.tfserving.triton import Signature, TensorSpec
from server.tfserving.wire.refusal import Refusal
from server.tfserving.wire.tensors import DTYPES, Tensor, packed_strings, strings_of

BY_NAME = {dtype.name: dtype for dtype in DTYPES.values()}


def signature(**dtypes):
    specs = {name: TensorSpec(BY_NAME[dtype], (-1,)) for name, dtype in dtypes.items()}
    return Signature(1, (1,), specs, {})


def read(value, dtype):
    return inputs_of({"inputs": value}, signature(x=dtype))[1]["x"]


@pytest.mark.parametrize(
    "dtype", [dtype for dtype in DTYPES.values() if dtype.numpy], ids=lambda one: one.name
)
def test_numbers_there_and_back(dtype):
    value = [[True, False], [False, True]] if dtype.name == "DT_BOOL" else [[0, 1], [2, 3]]
    if dtype.name == "DT_BFLOAT16":
        with pytest.raises(Refusal, match="bfloat16"):
            read(value, dtype.name)
        return
    tensor = read(value, dtype.name)
    assert tensor.shape == (2, 2)
    told = outputs_as(COLUMN, {"y": tensor})["outputs"]
    assert told == value
    assert {type(item) for row in told for item in row} == {
        bool if dtype.name == "DT_BOOL" else float if dtype.numpy.kind == "f" or "HALF" in dtype.name else int
    }


@pytest.mark.parametrize(
    "name", ["DT_UINT8", "DT_INT8", "DT_INT16", "DT_UINT16", "DT_INT32", "DT_UINT32", "DT_INT64"]
)
def test_integers_that_do_not_fit(name):
    limits = np.iinfo(BY_NAME[name].numpy)
    for fits in (limits.min, limits.max):
        assert np.frombuffer(read([fits], name).raw, BY_NAME[name].numpy).tolist() == [fits]
    for beyond in (limits.min - 1, limits.max + 1, 1.5, 10**100):
        with pytest.raises(Refusal, match="is not of expected type"):
            read([beyond], name)


@pytest.mark.parametrize(
    ("name", "written", "told"),
    [
        ("DT_FLOAT", "1e39", "Cannot convert JSON value: 1e+39 to float without loss"),
        ("DT_FLOAT", "-3.5e38", "to float without loss"),
        ("DT_FLOAT", "16777216", "to float without loss"),
        ("DT_FLOAT", "-9223372036854775808", "to float without loss"),
        ("DT_DOUBLE", "9007199254740992", "to double without loss"),
        ("DT_HALF", "65520.0", "to half without loss"),
        ("DT_HALF", "2048", "to half without loss"),
        ("DT_FLOAT", "1e400", "Number too big to be stored in double"),
        ("DT_DOUBLE", "-1e400", "Number too big to be stored in double"),
        ("DT_DOUBLE", f"1{'0' * 400}", "Number too big to be stored in double"),
        ("DT_FLOAT", "true", "is not of expected type"),
    ],
)
def test_floats_that_do_not_fit(name, written, told):
    """As TensorFlow Serving's json_tensor.cc and RapidJSON have it; never an infinity that nobody wrote."""
    with pytest.raises(Refusal, match=re.escape(told)):
        read(parsed(b'{"x": [0.5, %s]}' % written.encode())["x"], name)


def test_floats_at_their_ends():
    written = b'{"x": [16777215, -16777215, 3.4028234e38, 16777216.0, Infinity, -Infinity, NaN, 1e-50]}'
    found = np.frombuffer(read(parsed(written)["x"], "DT_FLOAT").raw, np.float32)
    limit = np.finfo(np.float32).max
    expected = np.float32([16777215, -16777215, limit, 16777216, np.inf, -np.inf, np.nan, 0])
    np.testing.assert_array_equal(found, expected)
    large = np.frombuffer(
        read(parsed(b'{"x": [9007199254740991, 100000000000000000000]}')["x"], "DT_DOUBLE").raw
    )
    assert large.tolist() == [2.0**53 - 1, 1e20]


def test_a_float_is_its_shortest_decimal():
    values = np.float32([0.1, 1 / 3, 16777216, 1e-45, 3.4028235e38])
    told = outputs_as(COLUMN, {"y": Tensor(BY_NAME["DT_FLOAT"], (5,), values.tobytes())})["outputs"]
    assert told[:2] == [0.1, 0.33333334]
    assert np.float32(told).tobytes() == values.tobytes()


def test_floats_of_every_size_are_their_shortest_decimals():
    chance = np.random.default_rng(3)
    for kind, bits in ((np.float32, np.uint32), (np.float16, np.uint16)):
        values = chance.integers(0, np.iinfo(bits).max, 3000, bits, endpoint=True).view(kind)
        values = np.concatenate([values, kind([0, -0.0, np.inf, 1e-7, 1, 100])])
        found = shortest(values.reshape(2, -1)).ravel()
        for value, decimal in zip(values, found, strict=True):
            told = float(str(value))
            assert np.isnan(decimal) == np.isnan(value)
            # one of 16 bits may have a digit more, where the last one could be either of two
            assert np.isnan(value) or (decimal == told if kind is np.float32 else kind(decimal) == value), (
                value
            )


def test_strings_that_are_no_text_are_base64():
    tensor = Tensor(BY_NAME["DT_STRING"], (2,), packed_strings(["ä".encode(), b"\xff"]))
    assert outputs_as(COLUMN, {"y": tensor}) == {"outputs": ["ä", {"b64": "/w=="}]}
    assert outputs_as(COLUMN, {"y_bytes": tensor}) == {"outputs": [{"b64": "w6Q="}, {"b64": "/w=="}]}


def test_base64_without_its_end():
    assert strings_of(read([{"b64": "YQ"}, {"b64": "YQ=="}], "DT_STRING").raw) == [b"a", b"a"]


def test_scalars_and_nothing():
    assert read(1, "DT_FLOAT").shape == ()
    assert read([[]], "DT_INT32") == Tensor(BY_NAME["DT_INT32"], (1, 0), b"")


def test_rows_of_unequal_outputs():
    one = Tensor(BY_NAME["DT_FLOAT"], (1,), bytes(4))
    with pytest.raises(Refusal, match="inconsistent batch size: 2 expecting: 1"):
        outputs_as("instances", {"a": one, "b": one._replace(shape=(2,), raw=bytes(8))})
    with pytest.raises(Refusal, match="has no shape information"):
        outputs_as("instances", {"a": one._replace(shape=())})


def test_what_follows_the_object_is_ignored():
    assert parsed(b' \n{"a": 1} and more') == {"a": 1}


def test_a_document_of_too_many_values():
    with pytest.raises(Refusal, match="more than 8388608 values"):
        parsed(b'{"instances": [' + b"," * (2**23 + 1))
