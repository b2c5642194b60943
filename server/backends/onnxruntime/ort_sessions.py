"""Options and graphs of sessions as ONNX Runtime's Python package has them, from what a config.pbtxt says."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
from ort_config import SessionGraph, graph_of_session, utf8
from ort_settings import ARENA_SHRINKAGE, arena_shrinkage, session_settings


def graph_of(path: Path, config: dict) -> SessionGraph:
    """The graph as a session of this configuration reports it: optimising it can tell more of its dims."""
    options = session_options(config)
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL  # it is only read, so threads are not needed
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return graph_of_session(ort.InferenceSession(utf8(path), options, providers=["CPUExecutionProvider"]))


def session_options(config: dict) -> ort.SessionOptions:
    """Raises `SettingsError`, or ONNX Runtime's own error for a library of operators that does not load."""
    settings = session_settings(config)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel(settings.graph_level)
    options.execution_mode = ort.ExecutionMode(settings.execution_mode)
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = settings.inter_op_threads
    options.enable_cpu_mem_arena = settings.mem_arena
    options.enable_mem_pattern = settings.mem_pattern
    for library in config.get("model_operations", {}).get("op_library_filename", []):
        options.register_custom_ops_library(library)
    return options


def run_options(config: dict, providers: Sequence[str] = ("CPUExecutionProvider",)) -> ort.RunOptions:
    """With what `arena_shrinkage` says. Raises `SettingsError`."""
    options = ort.RunOptions()
    if shrinkage := arena_shrinkage(config, providers):
        options.add_run_config_entry(ARENA_SHRINKAGE, shrinkage)
    return options
