"""PyTorch to ONNX: one self-contained file's bytes, with a dynamic batch and tidy names.

Nothing of the machine stays in the file: PyTorch's exporter writes source paths and stack traces into
every node, which would also make two exports of the same thing differ.
"""

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
import onnxscript.optimizer
import torch
from numpy.typing import NDArray
from torch import nn

from export.common import release
from export.common.errors import ConversionError
from export.graphs.sizes import Guards, SizeRules, heard_guards, rules_of
from export.sources.specs.explanation import explained
from export.sources.specs.spec import ModelSpec, Sample, Tensor

__all__ = ["BATCH_AXIS", "EXAMPLE_BATCH", "Converted", "convert", "first_states", "run_torch", "stack"]

BATCH_AXIS = "batch"  # the name of every tensor's first axis
EXAMPLE_BATCH = 2  # a batch of 1 would be taken for a constant
DYNAMIC = torch.export.Dim.DYNAMIC
ANY = 1 << 40  # elements; the optimiser's own limits leave larger constants to be computed at every run


@dataclass(frozen=True)
class Converted:
    """`graph` is the ONNX file's bytes; `rules` say what sizes it was traced for."""

    graph: bytes
    rules: SizeRules


def convert(spec: ModelSpec, served: nn.Module, samples: list[Sample], metadata: dict[str, str]) -> Converted:
    """The graph of `served`, which takes the spec's inputs and states and returns its outputs and states.

    `samples[0]` is the exporter's example. `metadata` is written into the file.
    Raises `ConversionError` when PyTorch's exporter refuses, as it does when the batch is fixed, and when the
    graph would be right for some sizes only of those that the spec allows.
    """
    example = (*stack([samples[0]] * EXAMPLE_BATCH), *first_states(spec, EXAMPLE_BATCH))
    batch = torch.export.Dim(BATCH_AXIS, min=1, max=max(2, spec.max_batch_size))
    dynamic = [{0: batch, **dict.fromkeys(_variable(tensor), DYNAMIC)} for tensor in spec.graph_inputs]
    guards = Guards()
    try:
        with _quiet() as printed, heard_guards(guards):
            program = torch.onnx.export(
                served,
                tuple(torch.from_numpy(array) for array in example),
                dynamo=True,
                opset_version=release.OPSET,
                input_names=[tensor.name for tensor in spec.graph_inputs],
                output_names=[tensor.name for tensor in spec.graph_outputs],
                dynamic_shapes=_as_arguments(served, dynamic),
                external_data=False,
                verbose=False,
            )
            assert program is not None  # as it is for dynamo=True
            # What depends on weights alone, as the reordered ones of a GRU do, is computed now, of any size.
            onnxscript.optimizer.optimize(program.model, input_size_limit=ANY, output_size_limit=ANY)
    except Exception as error:  # the exporter's errors have no common root
        raise ConversionError(explained(error, spec, printed.getvalue(), guards.last_line)) from error
    rules = rules_of(cast("torch.export.ExportedProgram", program.exported_program), spec, guards)
    graph = _tidy(program.model_proto, spec, metadata).SerializeToString(deterministic=True)
    return Converted(graph, rules)


def stack(samples: list[Sample]) -> Sample:
    """Samples of equal sizes as one batch: every array gains a leading batch dimension."""
    return tuple(np.stack(arrays) for arrays in zip(*samples, strict=True))


def first_states(spec: ModelSpec, batch: int) -> Sample:
    """The states that sequences begin with: zeros, as `initial_state` in the contract says."""
    return tuple(np.zeros((batch, *state.dims), state.dtype) for state in spec.states)


def run_torch(served: nn.Module, batch: Sample) -> list[NDArray[Any]]:
    """The network's own answer to a batch, one array for each output and state."""
    with torch.inference_mode():
        answer = served(*(torch.from_numpy(array) for array in batch))
    return [tensor.numpy() for tensor in (answer if isinstance(answer, tuple | list) else [answer])]


def _as_arguments(served: nn.Module, dynamic: list[dict[str, Any]]) -> tuple[Any, ...]:
    """One entry for each argument; those that `forward(*inputs)` collects are one entry together."""
    parameters = list(inspect.signature(served.forward).parameters.values())
    for place, parameter in enumerate(parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return (*dynamic[:place], tuple(dynamic[place:]))
    return tuple(dynamic)


def _variable(tensor: Tensor) -> list[int]:
    return [axis for axis, dim in enumerate(tensor.dims, start=1) if dim == -1]


def _tidy(model: onnx.ModelProto, spec: ModelSpec, metadata: dict[str, str]) -> onnx.ModelProto:
    graph = model.graph
    graph.name = spec.name
    model.ir_version = min(model.ir_version, release.MAX_IR_VERSION)  # the checker then says if that is valid
    # Intermediate shapes are recomputed by every runtime, and may hold the example's sizes as constants.
    del graph.value_info[:]
    for thing in (graph, *graph.input, *graph.output, *graph.initializer, *graph.node):
        del thing.metadata_props[:]
        thing.doc_string = ""
    for function in model.functions:
        for thing in (function, *function.node, *function.value_info):
            del thing.metadata_props[:]
            thing.doc_string = ""
    # The exporter may declare a variable axis as the constant it saw; what is declared here is the spec,
    # and verification runs several sizes against it.
    for declared, tensors in ((graph.input, spec.graph_inputs), (graph.output, spec.graph_outputs)):
        for value, tensor in zip(declared, tensors, strict=False):
            _declare(value, tensor)
    onnx.helper.set_model_props(model, metadata)
    return model


def _declare(value: onnx.ValueInfoProto, tensor: Tensor) -> None:
    shape = value.type.tensor_type.shape
    if len(shape.dim) != len(tensor.dims) + 1:
        return  # a wrong rank is not repaired: verification names it
    names = [BATCH_AXIS, *(f"{tensor.name}_{axis}" for axis in range(1, len(tensor.dims) + 1))]
    for dim, size, name in zip(shape.dim, (-1, *tensor.dims), names, strict=True):
        if size == -1:
            dim.dim_param = name
        elif not dim.HasField("dim_value"):
            dim.dim_value = size


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """The exporter warns of optional packages and of its own deprecated calls, and prints whole graphs as it
    fails; none of it is for users, and the latter is kept for the report."""
    printed = io.StringIO()
    loggers = [
        logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name[:5] == "torch"
    ]
    streams = [
        (handler, handler.setStream(printed))
        for logger in loggers
        for handler in logger.handlers
        if type(handler) is logging.StreamHandler
    ]
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("ignore")
            yield printed
    finally:
        registration.setLevel(level)
        for handler, stream in streams:
            if stream is not None:
                handler.setStream(stream)
