"""The public client, `tensorflow-serving-api`, unchanged, in an environment of its own (2 GB, made once)."""

import json
import subprocess
import sys

import pytest

from export.common.packages import cache_dir
from tests.tfserving import SERVED

PACKAGE = "tensorflow-serving-api==2.21.0"
SCRIPT = r"""
import json, sys
import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, get_model_status_pb2
from tensorflow_serving.apis import inference_pb2, model_management_pb2, model_service_pb2_grpc, predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc, regression_pb2

channel = grpc.insecure_channel(sys.argv[1])
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)
told = {}

def predict(model, inputs, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    for name, value in inputs.items():
        proto = value if hasattr(value, "tensor_content") else tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(proto)
    return stub.Predict(request, 60.0)

def refusal(call, request):
    try:
        call(request, 60.0)
    except grpc.RpcError as error:
        return error.code().name, error.details()

told["half"] = []
for spec in ({"version": 1}, {"label": "stable"}, {}):
    y = predict("half_plus_two", {"x": np.float32([1, 2, 5])}, **spec).outputs["y"]
    told["half"].append(tf.make_ndarray(y).tolist())
one = tf.make_tensor_proto([1.0], tf.float32)
told["scalar"] = list(predict("half_plus_two", {"x": one}).outputs["y"].float_val)
same = {}
for name, number in json.loads(sys.argv[2]).items():
    dtype = tf.dtypes.as_dtype(number)
    value = np.array([[b"a", b"\xff"]], object)
    if dtype != tf.string:
        value = np.array([[0, 1], [1, 0]]).astype(dtype.as_numpy_dtype)
    back = predict("echo", {name: tf.make_tensor_proto(value, dtype)}).outputs["out_" + name]
    same[name] = bool((tf.make_ndarray(back) == value).all()) and back.dtype == number
told["same"] = same

examples = [tf.train.Example(features=tf.train.Features(feature={
    "numbers": tf.train.Feature(float_list=tf.train.FloatList(value=[1, 2])),
    "name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"n"]))}))]
request = classification_pb2.ClassificationRequest()
request.model_spec.name = "pair"
request.input.example_list.examples.extend(examples)
(row,) = stub.Classify(request, 60.0).result.classifications
told["classes"] = [[one.label, one.score] for one in row.classes]

xs = [tf.train.Example(features=tf.train.Features(feature={
    "x": tf.train.Feature(float_list=tf.train.FloatList(value=[2]))}))]
request = regression_pb2.RegressionRequest()
request.model_spec.name = "half"
request.input.example_list.examples.extend(xs)
told["regression"] = [one.value for one in stub.Regress(request, 60.0).result.regressions]

request = inference_pb2.MultiInferenceRequest()
for signature in ("", "plus_two"):
    task = request.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name, task.model_spec.signature_name = "half", signature
request.input.example_list.examples.extend(xs)
results = stub.MultiInference(request, 60.0).results
told["several"] = [one.regression_result.regressions[0].value for one in results]

request = get_model_metadata_pb2.GetModelMetadataRequest()
request.model_spec.name = "pair"
request.metadata_field.append("signature_def")
signatures = get_model_metadata_pb2.SignatureDefMap()
assert stub.GetModelMetadata(request, 60.0).metadata["signature_def"].Unpack(signatures)
told["inputs"] = {name: tf.dtypes.as_dtype(info.dtype).name
                  for name, info in signatures.signature_def["serving_default"].inputs.items()}

request = get_model_status_pb2.GetModelStatusRequest()
request.model_spec.name = "half_plus_two"
told["status"] = [[one.version, one.State.Name(one.state), one.status.error_code]
                  for one in models.GetModelStatus(request, 60.0).model_version_status]

request = predict_pb2.PredictRequest()
request.model_spec.name = "nobody"
told["refused"] = refusal(stub.Predict, request)
told["reload"] = refusal(models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest())[0]
complex_one = tf.make_tensor_proto(np.complex64([1]))
request.model_spec.name = "half"
request.inputs["x"].CopyFrom(complex_one)
told["complex"] = refusal(stub.Predict, request)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def python():
    """The interpreter of the client's environment."""
    folder = cache_dir() / "environments" / PACKAGE.replace("==", "-")
    if not (folder / "complete").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run(
            [*install, "--upgrade", "pip>=25.1"], check=True
        )  # 23.2 stumbles over TensorFlow's files
        subprocess.run([*install, PACKAGE], check=True)
        (folder / "complete").touch()
    return folder / "bin" / "python"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_public_client_gets_right_answers(served, python):
    dtypes = json.dumps({dtype.name: dtype.number for dtype in SERVED})
    command = [python, "-c", SCRIPT, served.grpc, dtypes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["half"] == [[2.5, 3, 4.5], [2.5, 3, 4.5], [3.5, 4, 5.5]]
    assert told["scalar"] == [3.5]
    assert told["same"] == {dtype.name: True for dtype in SERVED}
    assert told["classes"] == [["first", 1], ["second: with a colon", 2], ["sum", 3]]
    assert told["regression"] == [1]
    assert told["several"] == [1, 4]
    assert told["inputs"] == {"numbers": "float32", "name": "string"}
    assert told["status"] == [[1, "AVAILABLE", 0], [2, "AVAILABLE", 0]]
    assert told["refused"] == ["NOT_FOUND", "Servable not found for request: Latest(nobody)"]
    assert told["reload"] == "UNIMPLEMENTED"
    assert told["complex"][0] == "INVALID_ARGUMENT"
