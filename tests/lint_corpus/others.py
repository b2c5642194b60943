"""Model repositories that others have published, rebuilt from facts: others.json.

A repository is a list of models; of each the table has what the config says, in a notation of its own, and
which files there were. Names are theirs, for names are what configs are about; graphs are made to fit.
"""

import json
import math
from pathlib import Path

from google.protobuf import json_format, text_format
from onnx import TensorProto, helper
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.lint_corpus.onnx_graphs import graph
from tests.lint_corpus.parts import PLAN_OF_10_5, Files
from tests.lint_corpus.python_sources import COMPLETING_PY, MODEL_PY, NETWORK_PY

__all__ = ["OTHERS", "facts", "files"]

TABLE = Path(__file__).with_name("others.json")
OTHERS: dict[str, dict[str, dict]] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "STRING": TensorProto.STRING,
}
SOURCES = {"plain": MODEL_PY, "completes": COMPLETING_PY, "network": NETWORK_PY}
MADE_LATER = {"dali": "model.dali", "vllm": "model.json"}  # in version folders that the table has as empty
LONGEST_VALUE = 40
# Short names of what nearly every config has; what is left of a config is under "more".
KEYS = {"name": "name", "backend": "backend", "platform": "platform", "max_batch_size": "batch"}


def facts(config: ModelConfig, files: list[str], source: str) -> dict:
    """A row of the table. files: in the model's folder; source: of model.py, as in SOURCES, or ""."""
    rest = ModelConfig()
    rest.CopyFrom(config)
    row: dict = {}
    for field, key in KEYS.items():
        if getattr(config, field):
            row[key] = getattr(config, field)
        rest.ClearField(field)
    for field in ("input", "output"):
        if getattr(config, field):
            row[field] = [_told(entry) for entry in getattr(config, field)]
        rest.ClearField(field)
    if config.HasField("ensemble_scheduling"):
        row["steps"] = [
            [
                step.model_name,
                step.model_version,
                dict(sorted(step.input_map.items())),
                dict(sorted(step.output_map.items())),
            ]
            for step in config.ensemble_scheduling.step
        ]
        rest.ClearField("ensemble_scheduling")
    for parameter in rest.parameters.values():
        if len(parameter.string_value) > LONGEST_VALUE:
            parameter.string_value = "..."
    if more := json_format.MessageToDict(rest, preserving_proto_field_name=True):
        row["more"] = more
    if rest.HasField("dynamic_batching") and not config.dynamic_batching.ListFields():
        row.setdefault("more", {})["dynamic_batching"] = {}
    row["files"] = files
    if source:
        row["source"] = source
    return row


def files(models: dict[str, dict]) -> Files:
    """The repository of a list of rows."""
    made: Files = {}
    for folder, row in models.items():
        config = _config(row)
        made[f"{folder}/config.pbtxt"] = text_format.MessageToString(config)
        for path in row["files"]:
            if path.endswith("/"):
                path += MADE_LATER.get(config.backend, "")
            content: str | bytes | None = None if path.endswith("/") else "x"
            if path.endswith("model.py"):
                content = SOURCES[row.get("source") or "plain"]
            elif path.endswith(".plan"):
                content = PLAN_OF_10_5
            elif path.endswith(".onnx"):
                content = _graph(config)
            made[f"{folder}/{path.rstrip('/')}"] = content
        for entry in config.output:
            if entry.label_filename:
                count = 1
                for dim in entry.dims:
                    count *= max(dim, 1)
                made[f"{folder}/{entry.label_filename}"] = "label\n" * count
    return made


def _told(entry) -> list:
    """name, type, dims, and what else it says."""
    rest = type(entry)()
    rest.CopyFrom(entry)
    for field in ("name", "data_type", "dims"):
        rest.ClearField(field)
    name = ModelConfig.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
    kind = name.values_by_number[entry.data_type].name.removeprefix("TYPE_")
    told: list = [entry.name, kind, list(entry.dims)]
    if more := json_format.MessageToDict(rest, preserving_proto_field_name=True):
        told.append(more)
    elif rest.HasField("reshape"):
        told.append({"reshape": {}})
    return told


def _config(row: dict) -> ModelConfig:
    config = json_format.ParseDict(row.get("more", {}), ModelConfig())
    for field, key in KEYS.items():
        if key in row:
            setattr(config, field, row[key])
    for field in ("input", "output"):
        for name, kind, dims, *more in row.get(field, ()):
            entry = getattr(config, field).add(name=name, dims=dims)
            entry.data_type = (
                entry.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[f"TYPE_{kind}"].number
            )
            if more:
                json_format.ParseDict(more[0], entry)
    for model, version, inputs, outputs in row.get("steps", ()):
        config.ensemble_scheduling.step.add(
            model_name=model, model_version=version, input_map=inputs, output_map=outputs
        )
    return config


def _graph(config: ModelConfig) -> bytes:
    """A graph that has the tensors of the config."""
    shaped = []
    for entries in (config.input, config.output):
        tensors = {}
        for entry in entries:
            kind = (
                entry.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[entry.data_type].name
            )
            dims = list(entry.reshape.shape if entry.HasField("reshape") else entry.dims)
            shape = [f"d{index}" if dim == -1 else dim for index, dim in enumerate(dims)]
            tensors[entry.name] = (
                ONNX_TYPES[kind.removeprefix("TYPE_")], ["N", *shape] if config.max_batch_size else shape
            )  # fmt: skip
        shaped.append(tensors)
    inputs, outputs = shaped
    batch = ["N"] if config.max_batch_size else []
    for control in config.sequence_batching.control_input:
        kinds = [
            TensorProto.INT32 if entry.int32_false_true
            else TensorProto.FLOAT if entry.fp32_false_true
            else TensorProto.BOOL if entry.bool_false_true
            else ONNX_TYPES[_TYPES.values_by_number[entry.data_type].name.removeprefix("TYPE_")]
            for entry in control.control
        ]  # fmt: skip
        inputs[control.name] = (kinds[0], [*batch, 1])
    for state in config.sequence_batching.state:
        kind = ONNX_TYPES[_TYPES.values_by_number[state.data_type].name.removeprefix("TYPE_")]
        shape = [*batch, *(f"s{index}" if dim == -1 else dim for index, dim in enumerate(state.dims))]
        inputs[state.input_name] = outputs[state.output_name] = (kind, shape)
    defaults = [
        helper.make_tensor(entry.name, inputs[entry.name][0], list(entry.dims), [0] * math.prod(entry.dims))
        for entry in config.input
        if entry.optional and not config.max_batch_size and min(entry.dims) > 0
    ]
    anything = {"x": (TensorProto.FLOAT, ["N", 4])}
    return graph(inputs or anything, outputs or {"y": anything["x"]}, weights=defaults)


_TYPES = ModelConfig.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
