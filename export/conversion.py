"""PyTorch to ONNX: one self-contained file's bytes, with a dynamic batch and tidy names.

Nothing of the machine stays in the file: PyTorch's exporter writes source paths and stack traces into
every node, which would also make two exports of the same thing differ.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import onnxscript.optimizer
import torch
from torch import nn

from export import release
from export.errors import ConversionError
from export.spec import ModelSpec, Sample, Tensor

__all__ = ["BATCH_AXIS", "convert", "first_states", "stack"]

BATCH_AXIS = "batch"  # the name of every tensor's first axis
EXAMPLE_BATCH = 2  # a batch of 1 would be taken for a constant
DYNAMIC = torch.export.Dim.DYNAMIC
ANY = 1 << 40  # elements; the optimiser's own limits leave larger constants to be computed at every run


def convert(spec: ModelSpec, served: nn.Module, samples: list[Sample], metadata: dict[str, str]) -> bytes:
    """The graph of `served`, which takes the spec's inputs and states and returns its outputs and states.

    `samples[0]` is the exporter's example. `metadata` is written into the file.
    Raises `ConversionError` when PyTorch's exporter refuses, as it does when the batch is fixed.
    """
    example = (*stack([samples[0]] * EXAMPLE_BATCH), *first_states(spec, EXAMPLE_BATCH))
    batch = torch.export.Dim(BATCH_AXIS, min=1, max=max(2, spec.max_batch_size))
    dynamic = tuple({0: batch, **dict.fromkeys(_variable(tensor), DYNAMIC)} for tensor in spec.graph_inputs)
    try:
        with _quiet():
            program = torch.onnx.export(
                served,
                tuple(torch.from_numpy(array) for array in example),
                dynamo=True,
                opset_version=release.OPSET,
                input_names=[tensor.name for tensor in spec.graph_inputs],
                output_names=[tensor.name for tensor in spec.graph_outputs],
                dynamic_shapes=dynamic,
                external_data=False,
                verbose=False,
            )
            # What depends on weights alone, as the reordered ones of a GRU do, is computed now, of any size.
            onnxscript.optimizer.optimize(program.model, input_size_limit=ANY, output_size_limit=ANY)
    except Exception as error:  # the exporter's errors have no common root, and its causes say the most
        raise ConversionError(
            f"PyTorch cannot export {spec.name} with a dynamic batch (1 to {spec.max_batch_size}):\n"
            f"{_root_message(error)}\n"
            "Write the network with no size as a constant (x.flatten(1), not x.reshape(8, -1)) "
            "and with no `if` on values"
        ) from error
    return _tidy(program.model_proto, spec, metadata).SerializeToString(deterministic=True)


def stack(samples: list[Sample]) -> Sample:
    """Samples of equal sizes as one batch: every array gains a leading batch dimension."""
    return tuple(np.stack(arrays) for arrays in zip(*samples, strict=True))


def first_states(spec: ModelSpec, batch: int) -> Sample:
    """The states that sequences begin with: zeros, as `initial_state` in the contract says."""
    return tuple(np.zeros((batch, *state.dims), state.dtype) for state in spec.states)


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


def _root_message(error: BaseException, lines: int = 12) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip() or type(error).__name__
    return "\n".join(f"  {line}" for line in text.splitlines()[:lines])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of optional packages and of its own deprecated calls; neither is for users."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
