"""What a config.pbtxt means to the ONNX Runtime backend, as NVIDIA's C++ backend reads it.

Its parameters are in `ort_settings.py`, its execution providers in `ort_providers.py`. Nothing here needs
ONNX Runtime: `ort_sessions.py` and `graph_reader.py` do. Facts from
triton-inference-server/onnxruntime_backend, README.md and src/onnxruntime.cc, release 24.10. What it does
with small models is a table of tests: tests/backend/verdicts.
"""

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ort_settings import SettingsError, shape_of

DEFAULT_FILENAME = "model.onnx"
DEFAULT_MAX_BATCH_SIZE = 4  # tritonserver's --backend-config=default-max-batch-size, which is not told to us

# ONNX Runtime's element types, as Triton names them. bfloat16 is missing in the C++ backend, too.
DATA_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}

MOST_DIMS = 1024  # of a tensor; native/plan.c takes no more

# What the sequence batcher feeds: flags, whose values tell the type, and the correlation ID, which names it.
CONTROL_FLAGS = ("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_READY")
CONTROL_ID = "CONTROL_SEQUENCE_CORRID"
FLAG_TYPES = {
    "int32_false_true": "TYPE_INT32",
    "fp32_false_true": "TYPE_FP32",
    "bool_false_true": "TYPE_BOOL",
}


@dataclass(frozen=True)
class SessionTensor:
    """data_type: Triton's name, or ONNX Runtime's where Triton's backend does not serve it.

    dims: with the batch, -1 where the graph leaves one open, [] for a scalar and where it tells no shape.
    """

    data_type: str
    dims: list[int]


@dataclass(frozen=True)
class SessionGraph:
    """The tensors by name; an overridable initializer is an input that the graph has a value for."""

    inputs: dict[str, SessionTensor]
    overridable_initializers: dict[str, SessionTensor]
    outputs: dict[str, SessionTensor]


def parse(model_config: str) -> dict:
    """From JSON, as Triton hands it to backends; integers of 64 bits may be strings in it."""
    return json.loads(model_config)


def graph_path(version_folder: Path, filename: str) -> Path:
    """The graph's file; where the name is a folder's (a graph with external data), model.onnx in it.

    Raises `SettingsError` if there is none.
    """
    path = version_folder / (os.fsdecode(filename.encode(errors="surrogateescape")) or DEFAULT_FILENAME)
    path = path / DEFAULT_FILENAME if path.is_dir() else path
    if not path.is_file():
        raise SettingsError(f"there is no {utf8(path)}; export the model, or set default_model_filename")
    return path


def utf8(path: Path) -> str:
    """As ONNX Runtime takes it. To Python, file names are ASCII in Triton's processes, in any locale."""
    return os.fsencode(path).decode()


def graph_of_session(session: Any) -> SessionGraph:
    """What an ort.InferenceSession or a graph_reader.Graph tells.

    Raises `SettingsError` for a name that is no plain text, and for what is not a tensor.
    """

    def tensors(nodes: Sequence[Any]) -> dict[str, SessionTensor]:
        return {_graph_name(node): _graph_tensor(node) for node in nodes}

    return SessionGraph(
        tensors(session.get_inputs()),
        tensors(session.get_overridable_initializers()),
        tensors(session.get_outputs()),
    )


def _graph_name(node: Any) -> str:
    """A name goes into logs, messages and other programs, so it must not look like more than a name."""
    try:
        name = node.name
    except UnicodeDecodeError:
        raise SettingsError("a tensor of the graph has a name that is not UTF-8; rename it") from None
    if not name or any(unicodedata.category(character) == "Cc" for character in name):
        raise SettingsError(
            f"tensor {name!r} of the graph has no name, or control characters in it; rename it"
        )
    return name


def _graph_tensor(node: Any) -> SessionTensor:
    if not node.type.startswith("tensor("):
        raise SettingsError(
            f"'{node.name}' of the graph is a {node.type}; inputs and outputs must be tensors to be served"
        )
    dims = [dim if isinstance(dim, int) else -1 for dim in node.shape or []]
    if len(dims) > MOST_DIMS:
        raise SettingsError(
            f"'{node.name}' of the graph has {len(dims)} dimensions; a tensor that is served has at most "
            f"{MOST_DIMS}"
        )
    return SessionTensor(DATA_TYPES.get(node.type, node.type), dims)


def _check_served(name: str, tensor: SessionTensor) -> None:
    if tensor.data_type not in DATA_TYPES.values():
        raise SettingsError(
            f"tensor '{name}' of the graph has type {tensor.data_type}, which Triton's ONNX Runtime backend "
            f"does not serve; it serves {', '.join(DATA_TYPES)}"
        )


def auto_complete(config: dict, graph: SessionGraph) -> None:
    """Fill in `config` from the graph: it batches if every tensor's first dimension is open.

    Raises `SettingsError` where the config says otherwise.
    """
    batches = all(tensor.dims[:1] == [-1] for tensor in (*graph.inputs.values(), *graph.outputs.values()))
    if batches:
        config["max_batch_size"] = config["max_batch_size"] or DEFAULT_MAX_BATCH_SIZE
        if config["max_batch_size"] > 1 and "sequence_batching" not in config:
            config.setdefault("dynamic_batching", {})
    elif config["max_batch_size"]:
        raise SettingsError(
            f"max_batch_size is {config['max_batch_size']}, but the graph does not batch: the first "
            "dimension of each input and output must be dynamic; export it so, or set max_batch_size: 0"
        )
    fed_by_triton = [name for name, _ in control_inputs(config)] + [s["input_name"] for s in states(config)]
    if fed_by_triton and not config.get("input"):
        raise SettingsError(
            f"the configuration has no input, and Triton feeds {', '.join(map(repr, fed_by_triton))}: "
            "completion cannot tell these from the others; list the inputs of requests"
        )
    skip = 1 if config["max_batch_size"] else 0
    for section, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        if not config.get(section):
            config[section] = [_io(name, tensor, skip) for name, tensor in tensors.items()]


def _io(name: str, tensor: SessionTensor, skip: int) -> dict:
    _check_served(name, tensor)
    dims = [dim or -1 for dim in tensor.dims[skip:]]  # a config cannot say that a dimension is 0
    if dims:
        return {"name": name, "data_type": tensor.data_type, "dims": dims}
    io = {"name": name, "data_type": tensor.data_type, "dims": [1]}  # nor that there are none
    return {**io, "reshape": {"shape": []}} if skip else io


def check_supported(config: dict) -> None:
    """Refuse at load what would be answered wrongly: raises `SettingsError`."""
    refused = [
        name
        for name, used in (
            ("batch_input", config.get("batch_input")),
            ("batch_output", config.get("batch_output")),
            ("allow_ragged_batch", any(entry.get("allow_ragged_batch") for entry in config["input"])),
        )
        if used
    ]
    if refused:
        raise SettingsError(
            f"{', '.join(refused)}: not supported by the ONNX Runtime backend of pip Triton; serve this "
            "model in the container, or remove it from config.pbtxt"
        )


def check_agrees(config: dict, graph: SessionGraph) -> None:
    """Raise `SettingsError` with every disagreement between config and graph."""
    known, batch = {**graph.overridable_initializers, **graph.inputs}, config["max_batch_size"]
    problems = _fed_problems(config, graph)
    for entry in config["input"]:
        problems += _tensor_problems("input", entry, known, batch) or _dims_problems(
            "input", entry, known[entry["name"]], batch, open_in=("graph",)
        )
    for entry in config["output"]:
        problems += _tensor_problems("output", entry, graph.outputs, batch) or _dims_problems(
            "output", entry, graph.outputs[entry["name"]], batch
        )
    for name, data_type in control_inputs(config):
        problems += _control_problems(name, data_type, graph.inputs, batch)
    for state in states(config):
        problems += _state_problems(state, known, graph.outputs, batch)
    if problems:
        raise SettingsError("configuration and graph disagree: " + "; ".join(dict.fromkeys(problems)))


def _fed_problems(config: dict, graph: SessionGraph) -> list[str]:
    """Each input of the graph is fed once: by requests, by the sequence batcher, or as a state."""
    problems = []
    for entry in config["input"]:
        name, optional = entry["name"], entry.get("optional")
        if optional and config["max_batch_size"]:
            problems.append(f"input '{name}' is optional, which needs max_batch_size: 0")
        elif optional and name in graph.inputs:
            problems.append(f"input '{name}' is optional, but the graph has no value of its own for it")
        elif not optional and name in graph.overridable_initializers:
            problems.append(
                f"input '{name}' is an initializer of the graph: mark it optional: true, or leave it out"
            )
    by_requests = [entry["name"] for entry in config["input"]]
    by_batcher = [name for name, _ in control_inputs(config)]
    as_states = [state["input_name"] for state in states(config)]
    for kind, names in (("control", by_batcher), ("state", as_states)):
        problems += [
            f"{kind} input '{name}' is fed by Triton; remove it from input"
            for name in names
            if name in by_requests
        ]
    for names in (by_requests, by_batcher + as_states):
        problems += [f"input '{name}' is listed twice" for name, count in Counter(names).items() if count > 1]
    fed = {*by_requests, *by_batcher, *as_states}
    return problems + [
        f"the graph's input '{name}' is not in the configuration" for name in graph.inputs if name not in fed
    ]


def control_inputs(config: dict) -> list[tuple[str, str]]:
    """Names and data types of the inputs that the sequence batcher feeds itself, one for each control."""
    found = []
    for entry in config.get("sequence_batching", {}).get("control_input", []):
        for control in entry["control"]:
            if control["kind"] in CONTROL_FLAGS:
                types = [data_type for key, data_type in FLAG_TYPES.items() if control.get(key)]
                found.append((entry["name"], types[0] if types else "without values"))
            elif control["kind"] == CONTROL_ID:
                found.append((entry["name"], control.get("data_type", "TYPE_INVALID")))
    return found


def states(config: dict) -> list[dict]:
    """The `state` entries of the sequence batcher; [] where the model keeps none."""
    return config.get("sequence_batching", {}).get("state", [])


def _control_problems(name: str, data_type: str, inputs: dict, max_batch_size: int) -> list[str]:
    if name not in inputs:
        return [f"the graph has no input '{name}' for the control, it has {_names(inputs)}"]
    problems, tensor = [], inputs[name]
    dims = tensor.dims[1:] if max_batch_size else tensor.dims
    if dims != [1]:
        problems.append(f"control '{name}' has dims {dims} in the graph; they must be [1]")
    if data_type != tensor.data_type:
        problems.append(f"control '{name}' is {data_type}, in the graph {tensor.data_type}")
    return problems


def _state_problems(state: dict, inputs: dict, outputs: dict, max_batch_size: int) -> list[str]:
    problems = []
    for kind, tensors in (("input", inputs), ("output", outputs)):
        entry = {**state, "name": state[f"{kind}_name"]}
        problems += _tensor_problems(f"state {kind}", entry, tensors, max_batch_size) or _dims_problems(
            f"state {kind}", entry, tensors[entry["name"]], max_batch_size, open_in=("graph", "config")
        )
    dims = [max(1, int(dim)) for dim in state["dims"]]  # where a dim is open, core begins with 1
    for initial in state.get("initial_state", []):
        if [int(dim) for dim in initial["dims"]] != dims:
            problems.append(
                f"initial_state of '{state['input_name']}' has dims {list(map(int, initial['dims']))}, but "
                f"Triton begins a sequence with {dims}"
            )
    return problems


def _tensor_problems(
    kind: str, entry: dict, tensors: dict[str, SessionTensor], max_batch_size: int
) -> list[str]:
    name = entry["name"]
    if name not in tensors:
        return [f"the graph has no {kind} '{name}', it has {_names(tensors)}"]
    tensor, problems = tensors[name], []
    _check_served(name, tensor)
    if entry["data_type"] != tensor.data_type:
        problems.append(f"{kind} '{name}' is {entry['data_type']}, in the graph {tensor.data_type}")
    if tensor.dims and max_batch_size and tensor.dims[0] != -1:
        problems.append(
            f"max_batch_size is {max_batch_size}, but the first dimension of {kind} '{name}' is fixed at "
            f"{tensor.dims[0]} in the graph"
        )
    return problems


def _dims_problems(
    kind: str, entry: dict, tensor: SessionTensor, max_batch_size: int, open_in: tuple[str, ...] = ()
) -> list[str]:
    """open_in: where an open dimension agrees with any size; else it must be open in both."""
    name, dims = entry["name"], shape_of(entry)
    if not tensor.dims:
        if any(dim != 1 for dim in dims):
            return [f"{kind} '{name}' has dims {dims}, but is a scalar in the graph: use [ 1 ]"]
        return []
    expected = [dim or -1 for dim in (tensor.dims[1:] if max_batch_size else tensor.dims)]  # see _io
    if len(dims) == len(expected) and all(
        ours == theirs or (theirs == -1 and "graph" in open_in) or (ours == -1 and "config" in open_in)
        for ours, theirs in zip(dims, expected, strict=True)
    ):
        return []
    return [f"{kind} '{name}' has dims {dims}, in the graph {expected}"]


def _names(tensors: dict) -> str:
    return ", ".join(map(repr, tensors)) or "none"
