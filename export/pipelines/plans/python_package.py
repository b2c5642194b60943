"""TensorRT's own Python package, where it is installed: the documented API, and PyTorch for GPU memory."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.common.errors import PlanError
from export.pipelines.plans.commands import GRAPH, plan_name
from export.pipelines.plans.profiles import PlanProfile

__all__ = ["PythonBuilder", "installed_version"]

PACKAGES = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-cu11")
DEVICE = "cuda"


def installed_version() -> str | None:
    """Of TensorRT, by the first of its packages that is installed; None if none is."""
    for package in PACKAGES:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


class PythonBuilder:
    """Builds and runs plans on this machine's GPU; `find_builder` sees to it that the version is right.

    weak_types: whether this version has weakly typed networks too, and is told not to make one.
    """

    def __init__(self, weak_types: bool) -> None:
        self._weak_types = weak_types

    def build(self, folder: Path, precision: str, capability: str, profile: PlanProfile) -> None:
        """The same as `commands.build_command`: strongly typed, one profile, the timing cache kept.

        Raises `PlanError` with what TensorRT says.
        """
        import tensorrt as trt

        logger = trt.Logger(trt.Logger.WARNING)
        builder = trt.Builder(logger)
        strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if self._weak_types else 0
        network = builder.create_network(strong)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse((folder / GRAPH).read_bytes()):
            errors = "\n".join(f"  {parser.get_error(index)}" for index in range(parser.num_errors))
            raise PlanError(f"TensorRT does not take {folder / GRAPH}:\n{errors}")
        config = builder.create_builder_config()
        if precision == "fp32":
            config.clear_flag(trt.BuilderFlag.TF32)
        shapes = builder.create_optimization_profile()
        for name in profile.smallest:
            shapes.set_shape(name, profile.smallest[name], profile.optimal[name], profile.largest[name])
        config.add_optimization_profile(shapes)
        kept = folder / f"timing_cc{capability}.cache"
        cache = config.create_timing_cache(kept.read_bytes() if kept.is_file() else b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise PlanError(f"TensorRT built no plan of {folder / GRAPH}; what it printed above says why")
        (folder / plan_name(capability)).write_bytes(bytes(plan))
        kept.write_bytes(bytes(config.get_timing_cache().serialize()))

    def run(
        self, folder: Path, capability: str, inputs: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """As `Builder.run`, through PyTorch's CUDA memory; tensors are of the plan's own types.

        TensorRT has no float64: it reads and writes float32 for it. Raises `PlanError`.
        """
        import tensorrt as trt
        import torch

        if not torch.cuda.is_available():
            raise PlanError("this PyTorch has no CUDA, which holds the plan's inputs: install one that has")
        runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        engine = runtime.deserialize_cuda_engine((folder / plan_name(capability)).read_bytes())
        context = engine.create_execution_context()
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        kinds = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(array, kinds[name])).to(DEVICE)
            for name, array in inputs.items()
        }
        for name, tensor in tensors.items():
            context.set_input_shape(name, tuple(tensor.shape))
        outputs = {
            name: torch.from_numpy(np.empty(tuple(context.get_tensor_shape(name)), kinds[name])).to(DEVICE)
            for name in names
            if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
        }
        for name, tensor in {**tensors, **outputs}.items():
            context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        if not context.execute_async_v3(stream.cuda_stream):
            raise PlanError(f"TensorRT did not run {folder / plan_name(capability)}; it printed why")
        stream.synchronize()
        return {name: tensor.cpu().numpy() for name, tensor in outputs.items()}
