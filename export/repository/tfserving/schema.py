"""TensorFlow Serving's config files, as far as people write them: read by protobuf's own text parser.

Message, field and package names are TensorFlow Serving's (tensorflow/serving, Apache-2.0), which is all that
a text file holds; numbers are its own where they are known, though no text depends on them.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from export.common.errors import ConfigError
from server.environment.regular_files import read_regular

__all__ = ["BATCHING", "MODELS", "MONITORING", "read"]

PACKAGE = "tensorflow.serving"
MODELS, BATCHING, MONITORING = "ModelServerConfig", "BatchingParameters", "MonitoringConfig"
KINDS = {"string": 9, "int64": 3, "int32": 5, "uint32": 13, "bool": 8, "double": 1}
# Message: "TYPE name = number"; "*" before the type of what may be repeated; a wrapper holds one `value`
FIELDS = {
    MODELS: "ModelConfigList model_config_list = 1, Custom custom_model_config = 2",
    "ModelConfigList": "*ModelConfig config = 1",
    "ModelConfig": (
        "string name = 1, string base_path = 2, ModelType model_type = 3, string model_platform = 4, "
        "VersionPolicy model_version_policy = 7, *VersionLabel version_labels = 8, "
        "LoggingConfig logging_config = 6, *LoggingConfig logging_configs = 9"
    ),
    "VersionPolicy": "Latest latest = 100, All all = 101, Specific specific = 102",
    "Latest": "uint32 num_versions = 1",
    "All": "",
    "Specific": "*int64 versions = 1",
    "VersionLabel": "string key = 1, int64 value = 2",
    "LoggingConfig": "Collector log_collector_config = 1, Sampling sampling_config = 2",
    "Collector": "string type = 1, string filename_prefix = 2",
    "Sampling": "double sampling_rate = 1, int32 attributes = 2",
    "Custom": "string type_url = 1",
    BATCHING: (
        "Int64Value max_batch_size = 1, Int64Value batch_timeout_micros = 2, "
        "Int64Value max_enqueued_batches = 3, Int64Value num_batch_threads = 4, "
        "StringValue thread_pool_name = 5, *int64 allowed_batch_sizes = 6, "
        "bool pad_variable_length_inputs = 7, BoolValue enable_large_batch_splitting = 8, "
        "Int64Value max_execution_batch_size = 9"
    ),
    "Int64Value": "int64 value = 1",
    "StringValue": "string value = 1",
    "BoolValue": "bool value = 1",
    MONITORING: "Prometheus prometheus_config = 1",
    "Prometheus": "bool enable = 1, string path = 2",
}
ENUMS = {"ModelType": ("MODEL_TYPE_UNSPECIFIED", "TENSORFLOW", "OTHER")}


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(
        name="tfserving_configs.proto", package=PACKAGE, syntax="proto3"
    )
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for at, value in enumerate(values):
            enum.value.add(name=value, number=at)
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            kind, own, _, number = field.split(" ")
            entry = message.field.add(name=own, number=int(number), label=3 if kind[0] == "*" else 1)
            kind = kind.lstrip("*")
            if kind in KINDS:
                entry.type = KINDS[kind]
            else:
                entry.type, entry.type_name = (14 if kind in ENUMS else 11), f".{PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


POOL = _pool()


def read(path: Path, name: str) -> Any:
    """A file of that message. Raises `ConfigError` with the line that cannot be understood."""
    message = message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))()
    try:
        text_format.Parse(read_regular(path).decode("utf-8-sig"), message)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise ConfigError(
            f"{path} is no {name} of TensorFlow Serving, line {error}; correct it, or take the field out "
            "if it is one that this command does not know"
        ) from error
    return message
