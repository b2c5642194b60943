"""A client of TensorFlow Serving made from its wire format, and models of Triton to ask by it."""

from pathlib import Path

import grpc
import numpy as np

from server.tfserving.wire.messages import message
from server.tfserving.wire.tensors import DTYPES, Tensor, fill, packed_strings
from tests.launcher import write_model

SERVICES = {
    "PredictionService": {
        "Predict": ("PredictRequest", "PredictResponse"),
        "Classify": ("ClassificationRequest", "ClassificationResponse"),
        "Regress": ("RegressionRequest", "RegressionResponse"),
        "MultiInference": ("MultiInferenceRequest", "MultiInferenceResponse"),
        "GetModelMetadata": ("GetModelMetadataRequest", "GetModelMetadataResponse"),
    },
    "ModelService": {
        "GetModelStatus": ("GetModelStatusRequest", "GetModelStatusResponse"),
        # what it takes is of no account: it is not there
        "HandleReloadConfigRequest": ("GetModelStatusRequest", "GetModelStatusResponse"),
    },
}
BY_NAME = {dtype.name: dtype for dtype in DTYPES.values()}
SERVED = [dtype for dtype in DTYPES.values() if dtype.name != "DT_BFLOAT16"]  # numpy has no bfloat16

HALF = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        xs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        ys = [(x / 2 + ADDED).astype(np.float32) for x in xs]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", y)]) for y in ys]
"""
HALF_CONFIG = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: -1 }
output { name: "y" data_type: TYPE_FP32 dims: -1 }
version_policy { all {} }
"""
ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("out_" + one.name(), one.as_numpy())
                                            for one in request.inputs()]) for request in requests]
"""
PAIR = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            numbers = pb_utils.get_input_tensor_by_name(request, "numbers").as_numpy()
            name = pb_utils.get_input_tensor_by_name(request, "name").as_numpy()
            scores = np.concatenate([numbers, numbers.sum(1, keepdims=True)], 1).astype(np.float32)
            answers.append(pb_utils.InferenceResponse(
                [pb_utils.Tensor("scores", scores), pb_utils.Tensor("name_bytes", name)]))
        return answers
"""
PAIR_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "numbers" data_type: TYPE_FP32 dims: 2 }
input { name: "name" data_type: TYPE_STRING dims: 1 }
output { name: "scores" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }
output { name: "name_bytes" data_type: TYPE_STRING dims: 1 }
"""
UNBATCHED = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        xs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]) for x in xs]
"""
UNBATCHED_CONFIG = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [-1, -1] }
output { name: "y" data_type: TYPE_FP32 dims: [-1, -1] label_filename: "labels.txt" }
"""
PAIR_LABELS = "first\nsecond: with a colon\nsum\n"


def write_models(repository: Path) -> None:
    """half_plus_two (versions 1 and 2, which adds three), half, echo (a tensor of each dtype), pair,
    unbatched."""
    folder = write_model(repository, "half_plus_two", HALF.replace("ADDED", "2"), HALF_CONFIG)
    (folder / "2").mkdir()
    (folder / "2" / "model.py").write_text(HALF.replace("ADDED", "3"))
    write_model(repository, "half", HALF.replace("ADDED", "0"), HALF_CONFIG)
    tensors = "".join(
        f'input {{ name: "{dtype.name}" {_config_type(dtype)} optional: true }}\n'
        f'output {{ name: "out_{dtype.name}" {_config_type(dtype)} }}\n'
        for dtype in SERVED
    )
    write_model(repository, "echo", ECHO, f'backend: "python"\n{tensors}')
    for name, code, config in (
        ("pair", PAIR, PAIR_CONFIG),
        ("unbatched", UNBATCHED, UNBATCHED_CONFIG),
    ):
        (write_model(repository, name, code, config) / "labels.txt").write_text(PAIR_LABELS)


def _config_type(dtype) -> str:
    return f"data_type: TYPE_{'STRING' if dtype.datatype == 'BYTES' else dtype.datatype} dims: [-1, -1]"


class Client:
    """client.Predict(request) and so on; requests are made with `request`."""

    def __init__(self, url: str):
        self.channel = grpc.insecure_channel(url, options=[("grpc.max_receive_message_length", -1)])
        for service, methods in SERVICES.items():
            for name, (_, response) in methods.items():
                call = self.channel.unary_unary(
                    f"/tensorflow.serving.{service}/{name}",
                    request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
                    response_deserializer=message(f"tensorflow.serving.{response}").FromString,
                )
                setattr(self, name, call)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def predict(self, model, /, _spec=None, **inputs):
        """Arrays in, arrays out."""
        asked = request("Predict", model, **(_spec or {}))
        for name, value in inputs.items():
            fill_content(asked.inputs[name], np.asarray(value))
        return {name: array(proto) for name, proto in self.Predict(asked).outputs.items()}

    def refusal(self, name, asked):
        """Code and words of an error."""
        try:
            getattr(self, name)(asked, timeout=60)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError(f"{name} was answered")


def request(method: str, model: str, *, signature: str = "", version: int | None = None, label: str = ""):
    kinds = {name: kinds for methods in SERVICES.values() for name, kinds in methods.items()}
    made = message(f"tensorflow.serving.{kinds[method][0]}")()
    set_spec(made.model_spec, model, signature=signature, version=version, label=label)
    return made


def set_spec(spec, model, *, signature="", version=None, label=""):
    spec.name, spec.signature_name = model, signature
    if version is not None:
        spec.version.value = version
    if label:
        spec.version_label = label


def dtype_of(value: np.ndarray):
    if value.dtype.kind in "OSU":
        return BY_NAME["DT_STRING"]
    if value.dtype == np.float16:
        return BY_NAME["DT_HALF"]
    return next(
        dtype for dtype in DTYPES.values() if dtype.numpy == value.dtype and "16" not in dtype.name[-2:]
    )


def fill_content(proto, value: np.ndarray) -> None:
    """As TensorFlow's make_tensor_proto does: numbers as tensor_content, strings as string_val."""
    dtype = BY_NAME["DT_UINT16"] if value.dtype == np.uint16 else None
    dtype = dtype or (BY_NAME["DT_INT16"] if value.dtype == np.int16 else dtype_of(value))
    proto.dtype = dtype.number
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype.numpy is None:
        proto.string_val.extend(value.ravel().tolist())
    else:
        proto.tensor_content = value.tobytes()


def fill_values(proto, value: np.ndarray) -> None:
    """The same in the typed fields."""
    content = type(proto)()
    fill_content(content, value)
    dtype = DTYPES[content.dtype]
    raw = packed_strings(value.ravel().tolist()) if dtype.numpy is None else value.tobytes()
    fill(proto, Tensor(dtype, value.shape, raw))


def array(proto) -> np.ndarray:
    """Of an answer's typed field, as TensorFlow's make_ndarray."""
    dtype = DTYPES[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    values = list(getattr(proto, dtype.field))
    if dtype.numpy is None:
        return np.array(values, object).reshape(shape)
    if dtype.name == "DT_HALF":
        return np.array(values, np.uint16).view(np.float16).reshape(shape)
    return np.array(values, dtype.numpy).reshape(shape)


def example(**features):
    """A tf.Example: lists of bytes, of floats or of integers."""
    made = message("tensorflow.Example")()
    for name, values in features.items():
        kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
        getattr(made.features.feature[name], kind).value.extend(values)
    return made
