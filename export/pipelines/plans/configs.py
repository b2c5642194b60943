"""`config.pbtxt` for TensorRT, as protobuf: the contract of the model, and the policy that it has already.

Both configurations keep the tensors' names, types and dims, so clients see no difference.
"""

import re

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from export.common.release import Release
from export.pipelines.plans.commands import plan_name
from export.pipelines.plans.profiles import PlanProfile
from export.repository.configs.contract import WEIGHTS_KEY, merge, parse_config, print_config

__all__ = [
    "ACCELERATOR_KEYS",
    "ENGINE_CACHE",
    "accelerator_config",
    "config_text",
    "plan_config",
    "with_plan",
]

TENSORRT = "tensorrt"
ENGINE_CACHE = "/var/cache/tensorrt"  # in the container; a volume, so that engines outlive it

# What people may change in the file; the rest of the accelerator's parameters is derived.
ACCELERATOR_POLICY = {
    "max_workspace_size_bytes": str(1 << 30),
    "trt_engine_cache_enable": "1",
    "trt_engine_cache_path": ENGINE_CACHE,
    "trt_timing_cache_enable": "1",
    "trt_timing_cache_path": ENGINE_CACHE,
    "trt_force_sequential_engine_build": "1",  # instances would all build at the same time
}

# Read by the ONNX Runtime backends only.
ONNXRUNTIME_PARAMETERS = re.compile(
    r"intra_op_thread_count|inter_op_thread_count|execution_mode|enable_mem_\w+|share_session\w*|cudnn_\w+"
    r"|gpu_mem_limit|arena_extend_strategy|do_copy_in_default_stream|memory\..*|session\..*|sequence_restart"
    r"|(cpu|cuda)_batch_size"
)

# All that the ONNX Runtime backend takes for the TensorRT accelerator (its src/onnxruntime.cc); any other key
# is an error when the model is loaded. ONNX Runtime 1.19 has no bfloat16 for it yet.
ACCELERATOR_KEYS = frozenset(
    {"precision_mode", "max_workspace_size_bytes"}
    | {"int8_calibration_table_name", "int8_use_native_calibration_table"}
    | {
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
    }
)


def plan_config(config: ModelConfig, contract: ModelConfig) -> ModelConfig:
    """For plans: `config`'s policy without what only ONNX Runtime reads, on GPUs, and the contract.

    `with_plan` adds the plans; there is no default one, so a GPU without a plan of its own is an error that
    names it, and not an engine of another GPU.
    """
    ours = _contract_for(contract, TENSORRT)
    planned = merge(config, ours)
    for key in [key for key in planned.parameters if ONNXRUNTIME_PARAMETERS.fullmatch(key)]:
        del planned.parameters[key]
    planned.ClearField("default_model_filename")
    planned.optimization.ClearField("execution_accelerators")
    planned.optimization.ClearField("graph")
    if not planned.optimization.ListFields():
        planned.ClearField("optimization")
    _place(planned, ModelInstanceGroup.KIND_GPU)
    return planned


def with_plan(config: ModelConfig, capability: str) -> ModelConfig:
    """Add the plan for a compute capability to `config` itself, and return it."""
    config.cc_model_filenames[capability] = plan_name(capability)
    return config


def accelerator_config(
    config: ModelConfig,
    contract: ModelConfig,
    profile: PlanProfile,
    precision: str,
    graph: str,
) -> ModelConfig:
    """For the ONNX Runtime backend with TensorRT inside: all that belongs together, set together.

    The engines are built when the model is loaded, for the profile's sizes; caches keep them for the next
    start, and the policy's warm-up requests run before the first client's. `graph` is the file's name in the
    version folder; its types are the engine's, as no `precision_mode` lets TensorRT choose others. On a CPU
    the same configuration serves without TensorRT.
    """
    accelerated = merge(config, _contract_for(contract, contract.backend))
    accelerated.default_model_filename = graph
    optimization = accelerated.optimization
    kept = {
        key: value
        for accelerator in optimization.execution_accelerators.gpu_execution_accelerator
        if accelerator.name == TENSORRT
        for key, value in accelerator.parameters.items()
        if key != "precision_mode"  # which older exports wrote
    }
    optimization.ClearField("execution_accelerators")
    # Some ONNX Runtimes crash on float16 convolutions with the last level of optimisation, on a CPU.
    optimization.graph.level = 1
    smallest, optimal, largest = profile.texts()
    derived = {
        "trt_profile_min_shapes": smallest,
        "trt_profile_opt_shapes": optimal,
        "trt_profile_max_shapes": largest,
        "trt_engine_cache_prefix": f"{contract.name}_{precision}",
    }
    accelerator = optimization.execution_accelerators.gpu_execution_accelerator.add(name=TENSORRT)
    accelerator.parameters.update({**ACCELERATOR_POLICY, **kept, **derived})
    _place(accelerated, ModelInstanceGroup.KIND_AUTO)
    return accelerated


def config_text(config: ModelConfig, before: str | None, source: object, release: Release) -> str:
    """The file's text: what is there already, if it says the same, else `config` under a comment."""
    if before is not None and parse_config(before, source) == config:
        return before
    return (
        f"# Derived by `python -m export` for TensorRT {release.tensorrt} of Triton "
        f"{release.name} (docs/how-to/tensorrt.md).\n"
        f"# Served with tritonserver --model-config-name={getattr(source, 'stem', TENSORRT)}; "
        "without it, config.pbtxt is.\n" + print_config(config)
    )


def _contract_for(contract: ModelConfig, backend: str) -> ModelConfig:
    ours = ModelConfig()
    ours.CopyFrom(contract)
    ours.backend = backend
    assert WEIGHTS_KEY in ours.parameters
    return ours


def _place(config: ModelConfig, kind: int) -> None:
    """As many instances as before, of one kind: host policies for CPUs mean nothing here. Groups that are of
    this kind already were written for it."""
    if config.instance_group and all(
        group.kind == kind and not group.host_policy for group in config.instance_group
    ):
        return
    count = sum(max(group.count, 1) for group in config.instance_group) or 1
    config.ClearField("instance_group")
    config.instance_group.add(count=count, kind=kind)
