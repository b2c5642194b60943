"""What the native half of the backend is to do with a model (docs/decisions/0014, 0020).

`reply_for` looks at a configuration and at its graph, and answers in one of these ways, told by the first
byte:

- `P`, a plan, which native/plan.c reads: fields of a fixed order, each a number of 8 bytes or a string with
  its length in 4 bytes before it, both little-endian. So no name in a file can be taken for anything else.
- `Y`, the Python half (model.py) serves it: one with states, strings, scalars or custom operators, without
  inputs, or for a GPU.
- `R`, refused, with the reason: a wrong configuration, or a graph that cannot be read or must not.
"""

import copy
import glob
import json
import os
import struct
from pathlib import Path

import graph_file
import graph_reader
import ort_config
import ort_providers
from ort_settings import (
    ARENA_SHRINKAGE,
    SettingsError,
    arena_shrinkage,
    given,
    items_at_once,
    max_shape,
    nice_level,
    session_settings,
)

PLAN, PYTHON, REFUSED = b"P", b"Y", b"R"


class Refused(ValueError):
    """A model that neither half can serve; the message says why."""


def reply_for(version_folder: Path, model_config: str, may_complete: bool) -> bytes:
    """may_complete: whether a configuration without inputs or outputs may be filled in from the graph."""
    try:
        return _reply_for(version_folder, ort_config.parse(model_config), may_complete)
    except (SettingsError, graph_file.GraphFileError, Refused) as error:
        return REFUSED + str(error).encode(errors="backslashreplace")


def _reply_for(version_folder: Path, config: dict, may_complete: bool) -> bytes:
    incomplete = not (config["input"] and config["output"])
    if needs_python(config) or (incomplete and not may_complete):
        return PYTHON
    ort_config.check_supported(config)
    _, accelerators = ort_providers.execution_providers(config, "CPU", 0, available=[])
    path = graph_file.checked(ort_config.graph_path(version_folder, config["default_model_filename"]))
    graph = read_graph(path, config)
    completed = ""
    if incomplete:
        config = copy.deepcopy(config)
        ort_config.auto_complete(config, graph)
        completed = json.dumps(config)
    ort_config.check_agrees(config, graph)
    scalars = [tensor for tensor in (*graph.inputs.values(), *graph.outputs.values()) if not tensor.dims]
    if not config["input"] or accelerators or scalars or needs_python(config):
        return PYTHON
    return PLAN + plan(config, graph, path, completed)


def read_graph(path: Path, config: dict) -> ort_config.SessionGraph:
    """Raises `SettingsError`, or `Refused` with what ONNX Runtime says of a graph that it cannot read."""
    try:
        graph = graph_reader.Graph(os.fsencode(path), session_settings(config))
        return ort_config.graph_of_session(graph)
    except graph_reader.OrtError as error:
        raise Refused(f"{path}: {error}") from None


def plan(config: dict, graph: ort_config.SessionGraph, path: Path, completed: str) -> bytes:
    """The bytes after the `P`; completed: the configuration as JSON if it was filled in, else ""."""
    settings = session_settings(config)
    skip = 1 if config["max_batch_size"] else 0
    known = {**graph.overridable_initializers, **graph.inputs}
    fields = [
        completed,
        str(path),
        arena_shrinkage(config),
        int(settings.mem_arena and not given(config, ARENA_SHRINKAGE)),
        config["max_batch_size"],
        items_at_once(config, "CPUExecutionProvider"),
        settings.graph_level,
        settings.execution_mode,
        settings.intra_op_threads,
        settings.inter_op_threads,
        int(settings.mem_arena),
        int(settings.mem_pattern),
        nice_level(config),
    ]
    bounds = max_shape(config)
    fields.append(len(config["input"]))
    for entry in config["input"]:
        rank = len(known[entry["name"]].dims)
        fields += [*_tensor(entry, rank), *[-1] * skip, *bounds.get(entry["name"], [-1] * (rank - skip))]
    outputs = {
        entry["name"]: entry for entry in config["output"]
    }  # one that is listed twice is answered once
    fields.append(len(outputs))
    for entry in outputs.values():
        fields += _tensor(entry, len(graph.outputs[entry["name"]].dims))
    return b"".join(map(encoded, fields))


def _tensor(entry: dict, rank: int) -> list:
    return [entry["name"], entry["data_type"].removeprefix("TYPE_"), rank]


def encoded(field: str | int) -> bytes:
    """As native/plan.c reads it: INT64, or UTF-8 with its length before it as UINT32; little-endian."""
    if isinstance(field, int):
        return struct.pack("<q", field)
    text = field.encode()
    return struct.pack("<I", len(text)) + text


def needs_python(config: dict) -> bool:
    """Whether the configuration alone, or a GPU in this machine, leaves the model to model.py."""
    tensors = [*config["input"], *config["output"]]
    return bool(
        config.get("sequence_batching")
        or config.get("model_operations")
        or any(tensor["data_type"] == "TYPE_STRING" for tensor in tensors)
        or glob.glob("/dev/nvidia[0-9]*")
    )
