"""Tell the native half of the backend whether it can serve a model, and how (docs/decisions/0014).

    python3 native_plan.py MODEL_FOLDER/VERSION < the model's configuration, as Triton's JSON

Prints lines of a key and a value, which native/model.c reads; nothing for a model that needs the Python half
(model.py): one with states, strings, scalars or custom operators, for a GPU, or with a wrong configuration;
`incomplete` if that half is to fill in the configuration first.
"""

import glob
import sys
from pathlib import Path

import onnxruntime as ort
import ort_config
from ort_config import ConfigError

INCOMPLETE = "incomplete"


def plan(config: dict, version_folder: Path) -> list[str]:
    """The lines; none for a model of the Python half."""
    library = onnxruntime_library()
    if not library or needs_python(config):
        return []
    if not (config["input"] and config["output"]):
        return [INCOMPLETE]
    ort_config.check_supported(config)
    providers, warnings = ort_config.execution_providers(config, "AUTO", 0, ort.get_available_providers())
    path = ort_config.graph_path(version_folder, config["default_model_filename"])
    graph = ort_config.graph_of(path)
    ort_config.check_agrees(config, graph)
    scalars = [tensor for tensor in (*graph.inputs.values(), *graph.outputs.values()) if not tensor.dims]
    if warnings or len(providers) > 1 or scalars:
        return []
    options = ort_config.session_options(config)
    return [
        f"library {library}",
        f"graph {path}",
        f"max_batch_size {config['max_batch_size']}",
        f"items_at_once {ort_config.items_at_once(config, 'CPUExecutionProvider')}",
        f"graph_level {int(options.graph_optimization_level)}",
        f"execution_mode {int(options.execution_mode)}",
        f"intra_op {options.intra_op_num_threads}",
        f"inter_op {options.inter_op_num_threads}",
        f"mem_arena {int(options.enable_cpu_mem_arena)}",
        f"mem_pattern {int(options.enable_mem_pattern)}",
        f"nice {ort_config.nice_level(config)}",
        *(f"input {entry['data_type']} {entry['name']}" for entry in config["input"]),
        *(f"output {entry['data_type']} {entry['name']}" for entry in config["output"]),
    ]


def needs_python(config: dict) -> bool:
    tensors = [*config["input"], *config["output"]]
    return bool(
        config.get("sequence_batching")
        or config.get("model_operations")
        or any(tensor["data_type"] == "TYPE_STRING" for tensor in tensors)
        or ort_config.parameter(config, ort_config.ARENA_SHRINKAGE)
        or ort_config.parameter(config, ort_config.DEVICE_INITIALIZERS)
        or glob.glob("/dev/nvidia[0-9]*")
    )


def onnxruntime_library() -> Path | None:
    """ONNX Runtime's C library in its Python package; wheels before 1.19 have none."""
    found = sorted((Path(ort.__file__).parent / "capi").glob("libonnxruntime.so*"))
    return found[0] if found else None


if __name__ == "__main__":
    try:
        lines = plan(ort_config.parse(sys.stdin.read()), Path(sys.argv[1]))
    except ConfigError:
        lines = []  # model.py says it
    sys.stdout.write("".join(f"{line}\n" for line in lines))
