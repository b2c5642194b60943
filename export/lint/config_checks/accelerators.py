"""TV701 to TV704, TV707: execution accelerators."""

import re
from collections.abc import Iterator
from typing import Any

from export.common.release import RELEASES
from export.lint.comparison import near
from export.lint.config_checks.instances import only_on_cpu
from export.lint.reading.release_schema import lacking
from export.lint.reading.repository import Model, Repository
from export.lint.rules import WARNING, Finding

__all__ = ["check"]

SECTION = ("optimization", "execution_accelerators")
GPU, CPU = "gpu_execution_accelerator", "cpu_execution_accelerator"
NAMES = {
    ("onnxruntime", GPU): ("tensorrt", "cuda"),
    ("onnxruntime", CPU): ("openvino",),
    ("tensorflow", GPU): ("tensorrt", "auto_mixed_precision", "gpu_io"),
    ("tensorflow", CPU): (),
}
# Keys of the TensorRT accelerator: the table in the README of the onnxruntime_backend repository, 2024.
PRECISIONS = ("FP32", "FP16", "INT8")
LATER_PRECISION = "BF16"
BOOLEANS = {
    "int8_use_native_calibration_table", "trt_build_heuristics_enable", "trt_context_memory_sharing_enable",
    "trt_cuda_graph_enable", "trt_detailed_build_log", "trt_dla_enable", "trt_dump_ep_context_model",
    "trt_dump_subgraphs", "trt_engine_cache_enable", "trt_force_sequential_engine_build",
    "trt_force_timing_cache", "trt_layer_norm_fp32_fallback", "trt_sparsity_enable",
    "trt_timing_cache_enable",
}  # fmt: skip
INTEGERS = {
    "max_workspace_size_bytes", "trt_auxiliary_streams", "trt_builder_optimization_level", "trt_dla_core",
    "trt_ep_context_embed_mode", "trt_max_partition_iterations", "trt_min_subgraph_size",
}  # fmt: skip
STRINGS = {
    "int8_calibration_table_name", "precision_mode", "trt_engine_cache_path", "trt_engine_cache_prefix",
    "trt_ep_context_file_path", "trt_extra_plugin_lib_paths", "trt_profile_max_shapes",
    "trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_tactic_sources", "trt_timing_cache_path",
}  # fmt: skip
TENSORRT_KEYS = BOOLEANS | INTEGERS | STRINGS
PROFILES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
SHAPE = re.compile(r"(.+):(\d+(?:x\d+)*)")


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV701 to TV704. Keys and values are checked on GPUs, for the ONNX Runtime backend alone."""
    accelerators = model.config.optimization.execution_accelerators
    for field in (GPU, CPU):
        for index, accelerator in enumerate(getattr(accelerators, field)):
            where = (*SECTION, field, index)
            yield from _name(model, field, accelerator, where)
            if model.backend == "onnxruntime" and field == GPU:
                yield from _keys(model, accelerator, where)
    if accelerators.gpu_execution_accelerator and model.backend == "onnxruntime" and only_on_cpu(model):
        yield model.finding(
            "TV704",
            "there is a GPU accelerator, but every instance is KIND_CPU: it has no effect",
            "write kind: KIND_GPU, or remove the accelerator",
            *SECTION,
            GPU,
        )


def _name(model: Model, field: str, accelerator: Any, where: tuple[Any, ...]) -> Iterator[Finding]:
    known = NAMES.get((model.backend, field))
    if known is None or accelerator.name in known:
        return
    other = CPU if field == GPU else GPU
    if accelerator.name in NAMES.get((model.backend, other), ()):
        fix = f"move it to {other}"
    else:
        fix = near(accelerator.name, known) or (f"choose {' or '.join(known)}" if known else "remove it")
    yield model.finding(
        "TV701",
        f"the {model.backend} backend has no {field.split('_')[0].upper()} accelerator {accelerator.name!r}",
        fix,
        *where,
        severity=WARNING if field == GPU and only_on_cpu(model) else None,  # it is not looked at there
    )


def _keys(model: Model, accelerator: Any, where: tuple[Any, ...]) -> Iterator[Finding]:
    """Of CUDA's keys only those that are TensorRT's are known to be wrong."""
    values = accelerator.parameters
    for key in sorted(values):
        problem = fix = ""
        if accelerator.name == "cuda":
            if key in TENSORRT_KEYS:
                problem, fix = f"{key} is TensorRT's", "move it to an accelerator named tensorrt"
        elif accelerator.name == "tensorrt":
            problem, fix = _tensorrt_problem(key, values[key])
            yield from _precision(model, key, values[key], (*where, "parameters", key))
        if problem:
            yield model.finding("TV702", problem, fix, *where, "parameters", key)
    if accelerator.name == "tensorrt":
        yield from _profiles(model, values, where)


def _tensorrt_problem(key: str, value: str) -> tuple[str, str]:
    if key not in TENSORRT_KEYS:
        hint = near(key, TENSORRT_KEYS) or f"choose one of {', '.join(sorted(TENSORRT_KEYS))}"
        return f"no release up to {list(RELEASES)[-1]} knows a key {key!r} of the TensorRT accelerator", hint
    if key == "precision_mode" and value not in (*PRECISIONS, LATER_PRECISION):
        return f"precision_mode is {value!r}", f"choose {', '.join(PRECISIONS)}"
    if key in BOOLEANS and value.lower() not in ("0", "1", "true", "false"):
        return f"{key} is {value!r}", "write 1 or 0"
    if key in INTEGERS and not re.fullmatch(r"-?\d+", value):
        return f"{key} is {value!r}", "write a whole number"
    return "", ""


def _precision(model: Model, key: str, value: str, where: tuple[Any, ...]) -> Iterator[Finding]:
    """What one release does with a precision and another does not."""
    if key != "precision_mode":
        return
    if value == LATER_PRECISION and (without := lacking("precision_mode BF16", model.releases)):
        yield model.finding(
            "TV702",
            f"precision_mode is {value!r}, which {', '.join(without)} does not know",
            f"choose {', '.join(PRECISIONS)}",
            *where,
            releases=without,
        )
    strong = lacking("weakly typed networks", model.releases)
    if value in (*PRECISIONS[1:], LATER_PRECISION) and strong:
        yield model.finding(
            "TV707",
            f"precision_mode is {value!r}: TensorRT 11, of {', '.join(strong)}, takes the types of the "
            "graph, and has no such switch any more",
            "export the graph in that precision (docs/how-to/tensorrt.md), and leave the key out",
            *where,
            releases=strong,
        )


def _profiles(model: Model, values: Any, where: tuple[Any, ...]) -> Iterator[Finding]:
    given = [key for key in PROFILES if key in values]
    if not given:
        return
    missing = [key for key in PROFILES if key not in values]
    if missing:
        yield model.finding(
            "TV703", f"{given[0]} is given without {', '.join(missing)}", "give all three, or none",
            *where, "parameters", given[0],
        )  # fmt: skip
        return
    shapes: list[dict[str, tuple[int, ...]]] = []
    for key in PROFILES:
        if (shape := _shapes(values[key])) is None:
            yield model.finding(
                "TV703", f"{key} is {values[key]!r}", "write name:1x3x224x224, further inputs after a comma",
                *where, "parameters", key,
            )  # fmt: skip
            return
        shapes.append(shape)
    least, best, most = shapes
    yield from _ranges(model, least, best, most, where)


def _shapes(text: str) -> dict[str, tuple[int, ...]] | None:
    shapes = {}
    for part in text.split(","):
        found = SHAPE.fullmatch(part.strip())
        if not found:
            return None
        shapes[found[1]] = tuple(map(int, found[2].split("x")))
    return shapes


def _ranges(
    model: Model, least: dict[str, Any], best: dict[str, Any], most: dict[str, Any], where: tuple[Any, ...]
) -> Iterator[Finding]:
    inputs, batch = model.signature.inputs, model.signature.max_batch_size
    for name in sorted({*least, *best, *most}):
        problem, fix, key = "", "", PROFILES[2]
        if not (name in least and name in best and name in most):
            problem, fix = f"{name!r} is not in all three profiles", "name each input in each of them"
        elif inputs is not None and name not in inputs and not _fed_by_triton(model, name):
            problem, fix = f"the model has no input {name!r}", near(name, inputs) or "write an input's name"
        elif not len(least[name]) == len(best[name]) == len(most[name]) or not all(
            low <= middle <= high
            for low, middle, high in zip(least[name], best[name], most[name], strict=True)
        ):
            problem, fix = f"{name!r} does not grow from min over opt to max", "order the sizes"
        elif inputs is not None and name in inputs and batch is not None:
            dims = list(inputs[name].reshape.shape or inputs[name].dims)
            rank = len(dims) + (1 if batch else 0)
            fixed = [-1, *dims] if batch else dims
            if len(most[name]) != rank:
                problem, fix = (
                    f"{name!r} has {len(most[name])} sizes, the input {rank}",
                    "begin with the batch",
                )
            elif any(dim > 0 and not low <= dim <= high
                     for dim, low, high in zip(fixed, least[name], most[name], strict=True)):  # fmt: skip
                problem = f"{name!r} goes from {least[name]} to {most[name]}, the input has {dims}"
                fix = "let the profile hold the input's dims"
            elif batch and most[name][0] < batch:
                problem = f"{name!r} goes up to batch {most[name][0]}, max_batch_size is {batch}"
                fix = f"raise it to {batch}, or lower max_batch_size: a larger batch builds the engine anew"
            elif batch and least[name][0] > 1:
                problem = f"{name!r} begins at batch {least[name][0]}; a lone request has batch 1"
                fix, key = "begin at 1", PROFILES[0]
        if problem:
            yield model.finding("TV703", f"the profile of {problem}", fix, *where, "parameters", key)


def _fed_by_triton(model: Model, name: str) -> bool:
    batching = model.config.sequence_batching
    return name in {
        *(entry.name for entry in batching.control_input),
        *(entry.input_name for entry in batching.state),
    }
