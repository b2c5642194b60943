"""TensorFlow Serving's gRPC interface, on the real tritonserver: tensors, versions, signatures, errors."""

import os

import numpy as np
import pytest
from grpc import StatusCode

from server.tfserving.wire.messages import message
from server.tfserving.wire.tensors import DTYPES
from tests.tfserving import SERVED, array, dtype_of, fill_content, fill_values, request

VALUES = {
    "DT_FLOAT": [[0.1, -np.inf, np.nan], [3.4e38, 0, -0.0]],
    "DT_DOUBLE": [[0.1, np.inf, np.nan], [1e308, 0, -0.0]],
    "DT_HALF": [[0.1, np.inf, np.nan], [65504, 0, -0.0]],
    "DT_BOOL": [[True, False, True], [False, False, True]],
    "DT_STRING": [[b"", b"a" * 300, b"\xff\x00"], ["ä".encode(), b"b", b"c"]],
}


def value_of(dtype):
    if dtype.name in VALUES:
        kind = {"DT_STRING": object, "DT_HALF": np.float16}.get(dtype.name, dtype.numpy)
        return np.array(VALUES[dtype.name], kind)
    limits = np.iinfo(dtype.numpy)
    return np.array([[limits.min, 0, 1], [2, 127, limits.max]], dtype.numpy)


@pytest.mark.parametrize("write", [fill_content, fill_values])
@pytest.mark.parametrize("dtype", SERVED, ids=lambda dtype: dtype.name)
def test_every_dtype_comes_back_as_it_was_sent(served, dtype, write):
    sent = value_of(dtype)
    asked = request("Predict", "echo")
    write(asked.inputs[dtype.name], sent)
    (output,) = served.client.Predict(asked).outputs.values()
    assert output.dtype == dtype.number
    np.testing.assert_array_equal(array(output), sent)
    assert array(output).tobytes() == sent.tobytes() or dtype.name == "DT_STRING"


def test_strings_in_tensor_content(served):
    asked = request("Predict", "echo")
    tensor = asked.inputs["DT_STRING"]
    tensor.dtype = 7
    for size in (1, 2):
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = bytes([200, 1, 3]) + b"x" * 200 + b"abc"  # lengths are varints
    (output,) = served.client.Predict(asked).outputs.values()
    assert list(output.string_val) == [b"x" * 200, b"abc"]


@pytest.mark.parametrize(
    ("values", "expected"), [([], [0, 0, 0]), ([7], [7, 7, 7]), ([1, 2, 3, 4], [1, 2, 3])]
)
@pytest.mark.parametrize("name", ["DT_FLOAT", "DT_INT32", "DT_STRING"])
def test_a_typed_field_repeats_its_last_value(served, values, expected, name):
    asked = request("Predict", "echo")
    (dtype,) = (one for one in DTYPES.values() if one.name == name)
    tensor = asked.inputs[name]
    tensor.dtype = dtype.number
    for size in (1, 3):
        tensor.tensor_shape.dim.add(size=size)
    as_text = name == "DT_STRING"
    getattr(tensor, dtype.field).extend([b"%d" % value for value in values] if as_text else values)
    (output,) = served.client.Predict(asked).outputs.values()
    found = [int(value or 0) for value in getattr(output, dtype.field)]
    assert found == expected


def test_versions_and_labels(served):
    def half_of(**spec):
        return served.client.predict("half_plus_two", spec, x=np.float32([2]))["y"].tolist()

    assert half_of() == [4]  # the latest, which adds three
    assert half_of(version=1) == [3]
    assert half_of(label="stable") == [3]
    assert half_of(label="canary") == [4]
    asked = request("Predict", "half_plus_two", label="stable")
    fill_content(asked.inputs["x"], np.float32([2]))
    spec = served.client.Predict(asked).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half_plus_two", 1, "serving_default")
    assert served.client.predict("half", {"label": "only"}, x=np.float32([2]))["y"].tolist() == [1]


def test_labels_follow_their_file(served):
    before = served.model_config.read_text()

    def write(text):
        other = served.model_config.with_suffix(".new")
        other.write_text(text)
        os.replace(other, served.model_config)

    try:
        write(before.replace('"stable" value: 1', '"stable" value: 2'))
        assert served.client.predict("half_plus_two", {"label": "stable"}, x=np.float32([2]))[
            "y"
        ].tolist() == [4]
        write("this is not a config")
        assert served.client.predict("half_plus_two", {"label": "stable"}, x=np.float32([2]))[
            "y"
        ].tolist() == [4]
    finally:
        write(before)
    assert served.client.predict("half_plus_two", {"label": "stable"}, x=np.float32([2]))["y"].tolist() == [3]


def test_signatures_are_models_of_that_name(served):
    assert served.client.predict("half", {"signature": "plus_two"}, x=np.float32([2]))["y"].tolist() == [4]
    asked = request("Predict", "half", signature="plus_two")
    fill_content(asked.inputs["x"], np.float32([2]))
    assert served.client.Predict(asked).model_spec.name == "half"
    asked = request("Predict", "half", signature="serving_default")
    fill_content(asked.inputs["x"], np.float32([2]))
    assert list(served.client.Predict(asked).outputs["y"].float_val) == [1]


def test_the_output_filter(served):
    asked = request("Predict", "pair")
    fill_content(asked.inputs["numbers"], np.float32([[1, 2]]))
    fill_content(asked.inputs["name"], np.array([[b"a"]], object))
    assert set(served.client.Predict(asked).outputs) == {"scores", "name_bytes"}
    asked.output_filter.append("scores")
    assert set(served.client.Predict(asked).outputs) == {"scores"}


def bad(model="half_plus_two", *, values=(1.0,), name="x", **spec):
    asked = request("Predict", model, **spec)
    fill_content(asked.inputs[name], np.float32(values))
    return asked


def with_filter(*names):
    asked = bad()
    asked.output_filter.extend(names)
    return asked


def with_tensor(**fields):
    asked = request("Predict", "half_plus_two")
    tensor = asked.inputs["x"]
    for size in fields.pop("shape", (1,)):
        tensor.tensor_shape.dim.add(size=size)
    for field, value in fields.items():
        if field == "unknown_rank":
            tensor.tensor_shape.unknown_rank = value
        else:
            setattr(tensor, field, value)
    return asked


REFUSED = [
    (message("tensorflow.serving.PredictRequest")(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    (bad(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (bad("nobody"), "NOT_FOUND", "Servable not found for request: Latest(nobody)"),
    (bad("half_plus_two\0"), "NOT_FOUND", "Servable not found for request: Latest(half_plus_two )"),
    (bad("stats"), "NOT_FOUND", "Servable not found for request: Latest(stats)"),
    (bad("half plus two"), "NOT_FOUND", "Servable not found for request: Latest(half plus two)"),
    (bad("half/versions/1"), "NOT_FOUND", "Servable not found for request: Latest(half/versions/1)"),
    (bad("half?"), "NOT_FOUND", "Servable not found for request: Latest(half?)"),
    (bad("h\u00e4lf"), "NOT_FOUND", "Servable not found for request: Latest(h\u00e4lf)"),
    (bad(version=9), "NOT_FOUND", "Servable not found for request: Specific(half_plus_two, 9)"),
    (bad(version=-1), "NOT_FOUND", "Servable not found for request: Specific(half_plus_two, -1)"),
    (bad(label="none"), "INVALID_ARGUMENT", "Unrecognized servable version label: none"),
    (bad(signature="none"), "FAILED_PRECONDITION", 'Serving signature key "none" not found.'),
    (
        bad(name="z"),
        "INVALID_ARGUMENT",
        "input size does not match signature: 1!=1 len({z}) != len({x}). Sent extra: {z}. Missing but "
        "required: {x}.",
    ),
    (request("Predict", "half_plus_two"), "INVALID_ARGUMENT", "Missing but required: {x}."),
    (with_filter("z"), "INVALID_ARGUMENT", "output tensor alias not found in signature: z"),
    (with_filter("y", "y"), "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
    (with_tensor(dtype=1, tensor_content=b"123"), "INVALID_ARGUMENT", "tensor parsing error: x"),
    (
        with_tensor(dtype=1, tensor_content=b"1234", shape=(-1,)),
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
    ),
    (with_tensor(dtype=1, unknown_rank=True), "INVALID_ARGUMENT", "tensor parsing error: x"),
    (with_tensor(dtype=1, shape=(2**40, 2**40)), "INVALID_ARGUMENT", "tensor parsing error: x"),
    (with_tensor(dtype=1, shape=(1,) * 255), "INVALID_ARGUMENT", "tensor parsing error: x"),
    (with_tensor(dtype=8), "INVALID_ARGUMENT", "dtype DT_COMPLEX64 is not supported"),
    (with_tensor(dtype=18), "INVALID_ARGUMENT", "dtype DT_COMPLEX128 is not supported"),
    (with_tensor(dtype=0), "INVALID_ARGUMENT", "dtype DT_INVALID is not supported"),
    (with_tensor(dtype=99), "INVALID_ARGUMENT", "dtype number 99 is not supported"),
    (with_tensor(dtype=7, tensor_content=b"\xff"), "INVALID_ARGUMENT", "holds no 1 strings"),
    (
        with_tensor(dtype=7, tensor_content=b"\x83" + b"\x80" * 9 + b"\0abc"),
        "INVALID_ARGUMENT",
        "holds no 1 strings",
    ),
    (with_tensor(dtype=2, tensor_content=bytes(8)), "INVALID_ARGUMENT", "FP64"),
    (b"\xff", "INTERNAL", "the request is not a PredictRequest"),
]


@pytest.mark.parametrize(
    ("asked", "code", "words"), REFUSED, ids=lambda one: str(one)[:30].replace("\n", " ")
)
def test_what_cannot_be_answered(served, asked, code, words):
    found, told = served.client.refusal("Predict", asked)
    assert (found, words in told) == (StatusCode[code], True), told


def test_the_words_are_short_whatever_the_name(served):
    found, told = served.client.refusal("Predict", bad("n" * 10**6))
    assert found == StatusCode.NOT_FOUND
    assert len(told) < 1100
    found, told = served.client.refusal("Predict", bad(name="n" * 10**6))
    assert found == StatusCode.INVALID_ARGUMENT
    assert "input size does not match signature" in told


def test_a_request_above_the_limit(served):
    code, _ = served.client.refusal("Predict", bad(values=np.zeros(9 * 2**18)))
    assert code == StatusCode.RESOURCE_EXHAUSTED


def test_metadata(served):
    asked = request("GetModelMetadata", "pair")
    code, _ = served.client.refusal("GetModelMetadata", asked)
    assert code == StatusCode.INVALID_ARGUMENT
    asked.metadata_field.append("signature_def")
    told = served.client.GetModelMetadata(asked)
    assert (told.model_spec.name, told.model_spec.version.value) == ("pair", 1)
    signatures = message("tensorflow.serving.SignatureDefMap")()
    assert told.metadata["signature_def"].Unpack(signatures)
    (name, signature), *none = signatures.signature_def.items()
    assert (name, signature.method_name, none) == ("serving_default", "tensorflow/serving/predict", [])
    assert {key: (info.name, info.dtype) for key, info in signature.inputs.items()} == {
        "numbers": ("numbers:0", 1),
        "name": ("name:0", 7),
    }
    assert [dim.size for dim in signature.outputs["scores"].tensor_shape.dim] == [-1, 3]
    asked.metadata_field.append("other")
    code, told = served.client.refusal("GetModelMetadata", asked)
    assert (code, told) == (StatusCode.INVALID_ARGUMENT, "Metadata field other is not supported")


def test_status(served):
    def states(**spec):
        told = served.client.GetModelStatus(request("GetModelStatus", "half_plus_two", **spec))
        return [(one.version, one.state, one.status.error_code) for one in told.model_version_status]

    assert states() == [(1, 30, 0), (2, 30, 0)]
    assert states(version=1) == [(1, 30, 0)]
    assert states(label="canary") == [(2, 30, 0)]
    assert served.client.refusal("GetModelStatus", request("GetModelStatus", "nobody")) == (
        StatusCode.NOT_FOUND,
        "Could not find any versions of model nobody",
    )
    assert served.client.refusal("GetModelStatus", request("GetModelStatus", "half", version=7)) == (
        StatusCode.NOT_FOUND,
        "Could not find version 7 of model half",
    )


def test_reloading_the_config_is_not_there(served):
    code, _ = served.client.refusal("HandleReloadConfigRequest", request("GetModelStatus", "half"))
    assert code == StatusCode.UNIMPLEMENTED


def inputs(count):
    asked = request("Predict", "half")
    for number in range(count):
        asked.inputs[str(number)].dtype = 1
    return asked


@pytest.mark.parametrize(
    "asked", [inputs(10_001), with_filter(*map(str, range(10_001)))], ids=("inputs", "outputs")
)
def test_many_names_are_refused_at_once(served, asked):
    code, told = served.client.refusal("Predict", asked)
    assert (code, told) == (
        StatusCode.INVALID_ARGUMENT,
        "the request names more than 10000 inputs or outputs; ask for fewer at a time",
    )


def test_dtypes_of_numpy_are_told_apart():
    assert {dtype_of(np.zeros(1, kind)).name for kind in (np.float32, np.uint8, object)} == {
        "DT_FLOAT",
        "DT_UINT8",
        "DT_STRING",
    }
