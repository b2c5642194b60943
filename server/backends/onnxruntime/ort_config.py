"""What a config.pbtxt means to the ONNX Runtime backend, as NVIDIA's C++ backend reads it.

Facts from triton-inference-server/onnxruntime_backend, README.md and src/onnxruntime.cc, release 24.10.
"""

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

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

# optimization.graph.level: 0 is the default, 1 asks for less than all, -1 for the basic ones, 2 for none.
GRAPH_LEVELS = {
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

# optimization.priority to nice(2): Triton's own default for threads that compute (SCHEDULER_DEFAULT_NICE) is
# 5, so that those which take requests in and bring answers out are not kept waiting by them.
NICE_LEVELS = {"PRIORITY_MAX": 0, "PRIORITY_DEFAULT": 5, "PRIORITY_MIN": 19}

# The parameter that cuts batches, by the provider that computes them (docs/serving.md).
BATCH_SIZES = {"CPUExecutionProvider": "cpu_batch_size", "CUDAExecutionProvider": "cuda_batch_size"}

ARENA_SHRINKAGE = "memory.enable_memory_arena_shrinkage"
DEVICE_INITIALIZERS = "session.use_device_allocator_for_initializers"

CONTROL_KINDS = (
    "CONTROL_SEQUENCE_START",
    "CONTROL_SEQUENCE_END",
    "CONTROL_SEQUENCE_READY",
    "CONTROL_SEQUENCE_CORRID",
)

TENSORRT_PRECISIONS = {
    "FP16": "trt_fp16_enable",
    "BF16": "trt_bf16_enable",
    "INT8": "trt_int8_enable",
    "FP32": None,
}
# Named alike in config.pbtxt and in ONNX Runtime; the C++ backend refuses every other key.
TENSORRT_PARAMETERS = frozenset(
    f"trt_{name}"
    for name in (
        *("max_partition_iterations", "min_subgraph_size", "dla_enable", "dla_core"),
        *("engine_cache_enable", "engine_cache_path", "engine_cache_prefix", "dump_subgraphs"),
        *("force_sequential_engine_build", "context_memory_sharing_enable", "layer_norm_fp32_fallback"),
        *("timing_cache_enable", "timing_cache_path", "force_timing_cache", "detailed_build_log"),
        *("build_heuristics_enable", "sparsity_enable", "builder_optimization_level"),
        *("auxiliary_streams", "tactic_sources", "extra_plugin_lib_paths", "cuda_graph_enable"),
        *("profile_min_shapes", "profile_opt_shapes", "profile_max_shapes"),
        *("dump_ep_context_model", "ep_context_file_path", "ep_context_embed_mode"),
    )
)
TENSORRT_RENAMED = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
# Integers in config.pbtxt, names to ONNX Runtime.
CUDA_PARAMETERS = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
    "gpu_mem_limit": None,
    "do_copy_in_default_stream": None,
}


class ConfigError(ValueError):
    """A config.pbtxt that the graph or this backend cannot serve; the message says what and how to mend."""


@dataclass(frozen=True)
class GraphTensor:
    """data_type: Triton's name; dims: with the batch, -1 where the graph leaves one open, [] for a scalar."""

    data_type: str
    dims: list[int]


@dataclass(frozen=True)
class Graph:
    inputs: dict[str, GraphTensor]
    overridable_initializers: dict[str, GraphTensor]
    outputs: dict[str, GraphTensor]


def parse(model_config: str) -> dict:
    return json.loads(model_config)


def graph_path(version_folder: Path, filename: str) -> Path:
    """The graph's file; where the name is a folder's (a graph with external data), model.onnx in it."""
    path = version_folder / (filename or DEFAULT_FILENAME)
    path = path / DEFAULT_FILENAME if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(f"there is no {path}; export the model, or set default_model_filename")
    return path


def graph_of(path: Path) -> Graph:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # only read, never run
    return graph_of_session(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))


def graph_of_session(session: ort.InferenceSession) -> Graph:
    def tensors(nodes):
        return {_graph_name(node): _graph_tensor(node) for node in nodes}

    return Graph(
        tensors(session.get_inputs()),
        tensors(session.get_overridable_initializers()),
        tensors(session.get_outputs()),
    )


def _graph_name(node) -> str:
    """A name goes into logs, messages and other programs, so it must not look like more than a name."""
    try:
        name = node.name
    except UnicodeDecodeError:
        raise ConfigError("a tensor of the graph has a name that is not UTF-8; rename it") from None
    if not name or any(unicodedata.category(character) == "Cc" for character in name):
        raise ConfigError(f"tensor {name!r} of the graph has no name, or control characters in it; rename it")
    return name


def _graph_tensor(node) -> GraphTensor:
    if node.type not in DATA_TYPES:
        raise ConfigError(
            f"tensor '{node.name}' of the graph has type {node.type}, which Triton's ONNX Runtime backend "
            f"does not serve; it serves {', '.join(DATA_TYPES)}"
        )
    dims = [dim if isinstance(dim, int) else -1 for dim in node.shape or []]
    return GraphTensor(DATA_TYPES[node.type], dims)


def auto_complete(config: dict, graph: Graph) -> None:
    """Fill in `config` from the graph: it batches if every tensor's first dimension is open."""
    batches = all(tensor.dims[:1] == [-1] for tensor in (*graph.inputs.values(), *graph.outputs.values()))
    if batches:
        config["max_batch_size"] = config["max_batch_size"] or DEFAULT_MAX_BATCH_SIZE
        if config["max_batch_size"] > 1 and "sequence_batching" not in config:
            config.setdefault("dynamic_batching", {})
    elif config["max_batch_size"]:
        raise ConfigError(
            f"max_batch_size is {config['max_batch_size']}, but the graph does not batch: the first "
            "dimension of each input and output must be dynamic; export it so, or set max_batch_size: 0"
        )
    skip = 1 if config["max_batch_size"] else 0
    fed_by_triton = {*control_inputs(config), *(state["input_name"] for state in states(config))}
    for section, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        if not config.get(section):
            config[section] = [
                _io(name, tensor, skip) for name, tensor in tensors.items() if name not in fed_by_triton
            ]


def _io(name: str, tensor: GraphTensor, skip: int) -> dict:
    dims = [dim or -1 for dim in tensor.dims[skip:]]  # a config cannot say that a dimension is 0
    if dims:
        return {"name": name, "data_type": tensor.data_type, "dims": dims}
    io = {"name": name, "data_type": tensor.data_type, "dims": [1]}  # nor that there are none
    return {**io, "reshape": {"shape": []}} if skip else io


def check_supported(config: dict) -> None:
    """Refuse at load what would be answered wrongly."""
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
        raise ConfigError(
            f"{', '.join(refused)}: not supported by the ONNX Runtime backend of pip Triton; serve this "
            "model in the container, or remove it from config.pbtxt"
        )


def check_agrees(config: dict, graph: Graph) -> None:
    """Raise `ConfigError` with every disagreement between config and graph."""
    problems = []
    known_inputs = {**graph.inputs, **graph.overridable_initializers}
    for entry in config["input"]:
        if entry.get("optional") and config["max_batch_size"]:
            problems.append(f"input '{entry['name']}' is optional, which needs max_batch_size: 0")
        problems += _io_problems("input", entry, known_inputs, config["max_batch_size"])
    for entry in config["output"]:
        problems += _io_problems("output", entry, graph.outputs, config["max_batch_size"])
    configured = {entry["name"] for entry in config["input"]} | set(control_inputs(config))
    for state in states(config):
        if state["input_name"] in configured:
            problems.append(f"state input '{state['input_name']}' is fed by Triton; remove it from input")
        configured.add(state["input_name"])
        problems += _state_problems(state, known_inputs, graph.outputs, config["max_batch_size"])
    for name in graph.inputs:
        if name not in configured:
            problems.append(f"the graph's input '{name}' is not in the configuration")
    if problems:
        raise ConfigError("configuration and graph disagree: " + "; ".join(problems))


def control_inputs(config: dict) -> list[str]:
    """Names of the inputs that the sequence batcher feeds itself."""
    return [
        entry["name"]
        for entry in config.get("sequence_batching", {}).get("control_input", [])
        if any(control["kind"] in CONTROL_KINDS for control in entry["control"])
    ]


def states(config: dict) -> list[dict]:
    return config.get("sequence_batching", {}).get("state", [])


def _state_problems(state: dict, inputs: dict, outputs: dict, max_batch_size: int) -> list[str]:
    problems = []
    for kind, tensors in (("input", inputs), ("output", outputs)):
        entry = {**state, "name": state[f"{kind}_name"]}
        problems += _io_problems(f"state {kind}", entry, tensors, max_batch_size)
    dims = [max(1, int(dim)) for dim in state["dims"]]  # where a dim is open, core begins with 1
    for initial in state.get("initial_state", []):
        if [int(dim) for dim in initial["dims"]] != dims:
            problems.append(
                f"initial_state of '{state['input_name']}' has dims {list(map(int, initial['dims']))}, but "
                f"Triton begins a sequence with {dims}"
            )
    return problems


def _io_problems(kind: str, entry: dict, tensors: dict[str, GraphTensor], max_batch_size: int) -> list[str]:
    name = entry["name"]
    if name not in tensors:
        return [f"the graph has no {kind} '{name}', it has {', '.join(map(repr, tensors))}"]
    tensor, problems = tensors[name], []
    if entry["data_type"] != tensor.data_type:
        problems.append(f"{kind} '{name}' is {entry['data_type']}, in the graph {tensor.data_type}")
    dims = [
        int(dim) for dim in entry.get("reshape", entry).get("dims" if "reshape" not in entry else "shape", [])
    ]
    if not tensor.dims:
        if any(dim != 1 for dim in dims):
            problems.append(f"{kind} '{name}' has dims {dims}, but is a scalar in the graph: use [ 1 ]")
    elif max_batch_size and tensor.dims[0] != -1:
        problems.append(
            f"max_batch_size is {max_batch_size}, but the first dimension of {kind} '{name}' is fixed at "
            f"{tensor.dims[0]} in the graph"
        )
    else:
        expected = tensor.dims[1:] if max_batch_size else tensor.dims
        if len(dims) != len(expected) or any(
            ours != theirs and -1 not in (ours, theirs) for ours, theirs in zip(dims, expected, strict=True)
        ):
            problems.append(f"{kind} '{name}' has dims {dims}, in the graph {expected}")
    return problems


def parameter(config: dict, name: str, default: str = "") -> str:
    return config.get("parameters", {}).get(name, {}).get("string_value", default)


def session_options(config: dict) -> ort.SessionOptions:
    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = GRAPH_LEVELS.get(level, GRAPH_LEVELS[0])
    execution_mode = _integer(config, "execution_mode", choices=(0, 1))
    options.execution_mode = (
        ort.ExecutionMode.ORT_PARALLEL if execution_mode == 1 else ort.ExecutionMode.ORT_SEQUENTIAL
    )
    options.intra_op_num_threads = max(0, _integer(config, "intra_op_thread_count"))  # 0: one a core
    options.inter_op_num_threads = max(0, _integer(config, "inter_op_thread_count"))
    if parameter(config, "enable_mem_arena"):
        options.enable_cpu_mem_arena = _boolean(config, "enable_mem_arena")
    if parameter(config, "enable_mem_pattern"):
        options.enable_mem_pattern = _boolean(config, "enable_mem_pattern")
    if parameter(config, DEVICE_INITIALIZERS):
        options.add_session_config_entry(DEVICE_INITIALIZERS, parameter(config, DEVICE_INITIALIZERS))
    for library in config.get("model_operations", {}).get("op_library_filename", []):
        options.register_custom_ops_library(library)
    return options


def items_at_once(config: dict, provider: str) -> int:
    """Items that a session of this provider computes at once; 0: as many as come. NVIDIA's ignores it."""
    if not (name := BATCH_SIZES.get(provider)):
        return 0
    size = _integer(config, name)
    if size < 0:
        raise ConfigError(f"parameter {name} is {size}; give 1 or more, or leave it out")
    return size


def nice_level(config: dict) -> int:
    return NICE_LEVELS[config.get("optimization", {}).get("priority", "PRIORITY_DEFAULT")]


def run_options(config: dict) -> ort.RunOptions:
    options = ort.RunOptions()
    if parameter(config, ARENA_SHRINKAGE):
        options.add_run_config_entry(ARENA_SHRINKAGE, parameter(config, ARENA_SHRINKAGE))
    return options


def arena_shrinkage(config: dict) -> str:
    """Of which arenas the memory is to go back to the system, as "cpu:0"; "" for none.

    The parameter says it, else it is on where a size is left open: one large request would keep its memory.
    """
    if parameter(config, "enable_mem_arena") and not _boolean(config, "enable_mem_arena"):
        return ""
    open_sizes = any(int(dim) == -1 for entry in config["input"] for dim in entry["dims"])
    return parameter(config, ARENA_SHRINKAGE, "cpu:0" if open_sizes else "")


def max_shape(config: dict) -> dict[str, list[int]]:
    """The parameter max_shape, `INPUT=d1,d2;INPUT2=d1`: largest sizes without the batch; -1: any."""
    found = {}
    for part in filter(None, parameter(config, "max_shape").split(";")):
        name, _, sizes = part.rpartition("=")
        found[name.strip()] = [int(size) for size in sizes.split(",")]
    return found


def execution_providers(
    config: dict, kind: str, device_id: int, available: list[str]
) -> tuple[list[tuple[str, dict]], list[str]]:
    """ONNX Runtime's providers for an instance of this kind, most wanted first, and warnings.

    What is wanted but not installed is left out with a warning: the CPU provider takes its place. Raises
    `ConfigError` for an accelerator or parameter that the C++ backend does not know either.
    """
    wanted = []
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    if kind in ("GPU", "AUTO"):
        cuda = {"device_id": str(device_id), **_cuda_parameters(config)}
        for accelerator in accelerators.get("gpu_execution_accelerator", []):
            parameters = accelerator.get("parameters", {})
            if accelerator["name"] == "tensorrt":
                options = {"device_id": str(device_id), **_tensorrt_parameters(parameters)}
                wanted.append(("TensorrtExecutionProvider", options))
            elif accelerator["name"] == "cuda":
                cuda.update(parameters)
            else:
                raise ConfigError(f"unknown GPU accelerator '{accelerator['name']}'; known: tensorrt, cuda")
        if kind == "GPU" or "CUDAExecutionProvider" in available:
            wanted.append(("CUDAExecutionProvider", cuda))
    for accelerator in accelerators.get("cpu_execution_accelerator", []):
        if accelerator["name"] != "openvino":
            raise ConfigError(f"unknown CPU accelerator '{accelerator['name']}'; known: openvino")
        wanted.append(("OpenVINOExecutionProvider", {"device_type": "CPU"}))
    warnings = [
        f"{name} is asked for, but not in this onnxruntime ({', '.join(available)}); the CPU takes its place"
        for name, _ in wanted
        if name not in available
    ]
    chosen = [(name, options) for name, options in wanted if name in available]
    return [*chosen, ("CPUExecutionProvider", {})], warnings


def fallback_warnings(providers: list[tuple[str, dict]], used: list[str]) -> list[str]:
    """Of a session asked for `providers` that has `used`: ONNX Runtime falls back without an error."""
    return [
        f"{name} was asked for and is installed, but could not be used: the model runs on "
        f"{', '.join(used)}. ONNX Runtime's lines above say what is missing, most often CUDA's or TensorRT's "
        "libraries"
        for name, _ in providers
        if name not in used
    ]


def _tensorrt_parameters(parameters: dict) -> dict[str, str]:
    options = {}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value not in TENSORRT_PRECISIONS:
                raise ConfigError(
                    f"precision_mode '{value}' is unknown; choose one of {', '.join(TENSORRT_PRECISIONS)}"
                )
            if TENSORRT_PRECISIONS[value]:
                options[TENSORRT_PRECISIONS[value]] = "1"
        elif key in TENSORRT_RENAMED or key in TENSORRT_PARAMETERS:
            options[TENSORRT_RENAMED.get(key, key)] = value
        else:
            raise ConfigError(f"unknown parameter '{key}' for the tensorrt accelerator")
    return options


def _cuda_parameters(config: dict) -> dict[str, str]:
    options = {}
    for name, choices in CUDA_PARAMETERS.items():
        if parameter(config, name):
            number = _integer(config, name, choices=range(len(choices)) if choices else None)
            options[name] = choices[number] if choices else str(number)
    return options


def _integer(config: dict, name: str, choices=None) -> int:
    text = parameter(config, name, "0")
    try:
        number = int(text)
    except ValueError:
        raise ConfigError(f"parameter {name} is '{text}', which is no integer") from None
    if choices is not None and number not in choices:
        raise ConfigError(f"parameter {name} is {number}; choose one of {', '.join(map(str, choices))}")
    return number


def _boolean(config: dict, name: str) -> bool:
    text = parameter(config, name).lower()
    if text not in ("true", "false", "1", "0"):
        raise ConfigError(f"parameter {name} is '{text}'; choose true or false")
    return text in ("true", "1")
