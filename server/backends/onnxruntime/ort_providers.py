"""ONNX Runtime's execution providers for an instance, as NVIDIA's C++ backend chooses them.

Facts from triton-inference-server/onnxruntime_backend, README.md and src/onnxruntime.cc, release 24.10.
"""

from ort_settings import SettingsError, given, integer, parameter

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


def execution_providers(
    config: dict, kind: str, device_id: int, available: list[str]
) -> tuple[list[tuple[str, dict]], list[str]]:
    """ONNX Runtime's providers for an instance of this kind, most wanted first, and warnings.

    What is wanted but not installed is left out with a warning: the CPU provider takes its place. Raises
    `SettingsError` for an accelerator or parameter that the C++ backend does not know either.
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
                raise SettingsError(f"unknown GPU accelerator '{accelerator['name']}'; known: tensorrt, cuda")
        if kind == "GPU" or "CUDAExecutionProvider" in available:
            wanted.append(("CUDAExecutionProvider", cuda))
    for accelerator in accelerators.get("cpu_execution_accelerator", []):
        if accelerator["name"] != "openvino":
            raise SettingsError(f"unknown CPU accelerator '{accelerator['name']}'; known: openvino")
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
    options: dict[str, str] = {}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value not in TENSORRT_PRECISIONS:
                raise SettingsError(
                    f"precision_mode '{value}' is unknown; choose one of {', '.join(TENSORRT_PRECISIONS)}"
                )
            if flag := TENSORRT_PRECISIONS[value]:
                options[flag] = "1"
        elif key in TENSORRT_RENAMED or key in TENSORRT_PARAMETERS:
            options[TENSORRT_RENAMED.get(key, key)] = value
        else:
            raise SettingsError(f"unknown parameter '{key}' for the tensorrt accelerator")
    return options


def _cuda_parameters(config: dict) -> dict[str, str]:
    options = {}
    for name, choices in CUDA_PARAMETERS.items():
        if given(config, name):
            options[name] = (
                choices[integer(config, name, range(len(choices)))] if choices else parameter(config, name)
            )
    return options
