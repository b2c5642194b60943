"""Answers are read as tritonclient writes and reads them, and compared."""

import contextlib
import json

import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor, triton_to_np_dtype

from server.operations.rollout.answers import alike, of_grpc, of_http

FLOATS = np.array([[0.1, 0.7, 0.2]], np.float32)
TEXTS = np.array([b"a", b"", "ü".encode() * 200], object)


def message(**outputs):
    """A ModelInferResponse, of arrays and datatypes."""
    answer = service_pb2.ModelInferResponse(model_name="m", model_version="12", id="an id")
    answer.parameters["triton_final_response"].bool_param = True
    for name, (datatype, array) in outputs.items():
        answer.outputs.add(name=name, datatype=datatype, shape=array.shape)
        raw = serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
        answer.raw_output_contents.append(raw)
    return answer.SerializeToString()


def http(binary=True, **outputs):
    """Body and length of its head."""
    described, raw = [], b""
    for name, (datatype, array) in outputs.items():
        content = serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
        output = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if binary:
            output["parameters"] = {"binary_data_size": len(content)}
            raw += content
        else:
            output["data"] = [value.decode() for value in array] if datatype == "BYTES" else array.tolist()
        described.append(output)
    head = json.dumps({"model_name": "m", "outputs": described}).encode()
    return (head + raw, len(head)) if binary else (head, None)


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT64", "FP16", "FP32", "FP64"])
def test_numbers(datatype):
    array = np.array([[0, 1], [1, 0]], triton_to_np_dtype(datatype))
    for found in (
        of_grpc(message(y=(datatype, array))),
        of_http(*http(y=(datatype, array))),
        of_http(*http(False, y=(datatype, array))),
    ):
        assert found["y"].shape == (2, 2)
        assert found["y"].values.dtype == array.dtype
        assert list(found["y"].values) == list(array.flat)


def test_texts_and_several_outputs():
    outputs = {"text": ("BYTES", TEXTS), "scores": ("FP32", FLOATS)}
    for found in (of_grpc(message(**outputs)), of_http(*http(**outputs)), of_http(*http(False, **outputs))):
        assert found["text"].values == list(TEXTS)
        assert list(found["scores"].values) == list(FLOATS.flat)


def test_bfloat16():
    raw = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    answer = service_pb2.ModelInferResponse(raw_output_contents=[raw])
    answer.outputs.add(name="y", datatype="BF16", shape=[2])
    assert list(of_grpc(answer.SerializeToString())["y"].values) == [1.5, -2.0]


@pytest.mark.parametrize("length", range(1, 40, 3))
def test_what_breaks_off_is_an_error_or_less(length):
    whole = message(scores=("FP32", FLOATS))
    with contextlib.suppress(ValueError):
        assert of_grpc(whole[:-length]).keys() <= {"scores"}


def of(datatype, *values, shape=None):
    array = np.array(values, object if datatype == "BYTES" else triton_to_np_dtype(datatype))
    return of_grpc(message(y=(datatype, array.reshape(shape or array.shape))))


@pytest.mark.parametrize(
    ("old", "new", "agree", "difference"),
    [
        (of("FP32", 0.1, 0.9), of("FP32", 0.4, 0.6), True, 0.3),  # the same class
        (of("FP32", 0.1, 0.9), of("FP32", 0.9, 0.1), False, 0.8),
        (
            of("FP32", 0.1, 0.9, 0.9, 0.1, shape=(2, 2)),
            of("FP32", 0.1, 0.9, 0.1, 0.9, shape=(2, 2)),
            False,
            0.8,
        ),
        (of("FP32", 1000.0), of("FP32", 1000.5), True, 0.5),  # a value, within a thousandth
        (of("FP32", 1000.0), of("FP32", 1002.0), False, 2.0),
        (of("FP32", np.nan), of("FP32", np.nan), True, 0.0),
        (of("FP32", np.nan), of("FP32", 1.0), False, np.inf),
        (of("FP32", np.inf), of("FP32", np.inf), True, 0.0),
        (of("FP32", 1.0, 2.0), of("FP32", 1.0, 2.0, 3.0), False, np.inf),
        (of("FP32", 1.0), of("FP64", 1.0), False, np.inf),
        (of("INT32", 3, 4), of("INT32", 3, 5), False, 1.0),
        (of("UINT8", 0), of("UINT8", 255), False, 255.0),
        (of("BOOL", True), of("BOOL", False), False, 1.0),
        (of("BYTES", b"cat"), of("BYTES", b"cat"), True, 0.0),
        (of("BYTES", b"cat"), of("BYTES", b"dog"), False, np.inf),
        (
            of("BYTES", b"0.90:285:cat"),
            of("BYTES", b"0.80:285:cat"),
            True,
            0.1,
        ),  # the classification extension
        (of("BYTES", b"0.90:285:cat"), of("BYTES", b"0.80:286:dog"), False, 0.1),
        (of("BYTES", b"1:2"), of("INT32", 1), False, np.inf),
        (of("FP32", 1.0), {}, False, np.inf),
        (of("FP32", shape=(0, 4)), of("FP32", shape=(0, 4)), True, 0.0),  # no boxes
        ({}, {}, True, 0.0),
    ],
)
def test_comparison(old, new, agree, difference):
    found, by = alike(old, new)
    assert found is agree
    assert by == pytest.approx(difference, rel=1e-3)
