"""Does the network itself answer its samples, with what the spec says? Asked before it is converted, since
PyTorch's own errors name the user's line, and those of a traced graph do not."""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

from export.common.errors import SpecError
from export.common.wording import counted
from export.graphs.conversion import EXAMPLE_BATCH, first_states, stack
from export.sources.specs.explanation import first_lines
from export.sources.specs.spec import ModelSpec, Sample
from export.sources.specs.user_code import line_of

__all__ = ["check_answers"]

OTHER_BATCHES = (1, 3)  # beside the exporter's example, of a network that batches


def check_answers(spec: ModelSpec, served: nn.Module, samples: list[Sample]) -> None:
    """Run the network on the samples, one of each size, all where they are random integers.

    Raises `SpecError`, which says where the network fails, and with how many items, how to give
    samples where random integers were tried, and what it returns if that is no tuple of tensors, as many as
    the spec's outputs.
    """
    tried: set[tuple[Any, ...]] = set()
    integers = not spec.samples and any(array.dtype.kind in "iu" for array in samples[0])
    for sample in samples:
        _check_sample(spec, sample)
        dims = tuple(array.shape for array in sample)
        if dims in tried and not integers:
            continue
        tried.add(dims)
        try:
            answer = _answer(spec, served, sample, EXAMPLE_BATCH)
        except Exception as error:  # whatever the user's code runs into
            raise SpecError(_failure(spec, sample, error)) from error
        _check_answer(spec, answer)
    for count in (count for count in OTHER_BATCHES if count <= spec.max_batch_size):
        try:
            _answer(spec, served, samples[0], count)
        except Exception as error:  # whatever the user's code runs into
            raise SpecError(_counted_items(spec, count, error)) from error


def _answer(spec: ModelSpec, served: nn.Module, sample: Sample, count: int) -> Any:
    """Of a batch of as many copies of the sample."""
    batch = (*stack([sample] * count), *first_states(spec, count))
    with torch.inference_mode():
        return served(*(torch.from_numpy(array) for array in batch))


def _check_sample(spec: ModelSpec, sample: Sample) -> None:
    found = [f"{array.dtype} {list(array.shape)}" for array in map(np.asarray, sample)]
    fits = len(sample) == len(spec.inputs) and all(
        array.dtype == tensor.dtype
        and array.ndim == len(tensor.dims)
        and all(dim in (-1, size) for dim, size in zip(tensor.dims, array.shape, strict=True))
        for tensor, array in zip(spec.inputs, map(np.asarray, sample), strict=True)
    )
    if not fits:
        wanted = [f"{tensor.name} {tensor.dtype} {list(tensor.dims)}" for tensor in spec.inputs]
        raise SpecError(
            f"a sample of {spec.name} is {', '.join(found)}, and its inputs are {', '.join(wanted)}: a "
            "sample is a tuple of arrays in the order of the inputs, without the batch"
        )
    for tensor, array in zip(spec.inputs, sample, strict=True):
        for index, size in enumerate(array.shape):
            if size > tensor.most(index) > 0:
                raise SpecError(
                    f"a sample of {spec.name} has {size} in dim {index} of {tensor.name}, above the spec's "
                    f"{tensor.most(index)}: give smaller ones, or a larger max_dims"
                )


def _failure(spec: ModelSpec, sample: Sample, error: Exception) -> str:
    line = line_of(error)
    where = f", at {line}" if line else ""
    dims = [list(array.shape) for array in sample]
    text = (
        f"{type(error).__name__}: {first_lines(error)}{where}\n"
        f"The network of {spec.name} fails in PyTorch already, on a batch of {EXAMPLE_BATCH} with dims {dims}"
    )
    integers = [tensor for tensor in spec.inputs if np.dtype(tensor.dtype).kind in "iu"]
    if spec.samples or not integers:
        return f"{text}: correct it, or the samples"
    example = ", ".join(
        f"numpy.zeros({[2 if dim == -1 else dim for dim in tensor.dims]}, {tensor.dtype!r})"
        for tensor in spec.inputs
    )
    return (
        f"{text}. Random integers were tried for {', '.join(tensor.name for tensor in integers)}"
        f"{_random_range(sample)}; if it takes fewer, such as the indices of an embedding, give samples with "
        f"numbers that it does take, several and unlike: samples=lambda: [({example},), ...]"
    )


def _counted_items(spec: ModelSpec, count: int, error: Exception) -> str:
    line = line_of(error)
    return (
        f"{type(error).__name__}: {first_lines(error)}{f', at {line}' if line else ''}\n"
        f"The network of {spec.name} answers a batch of {EXAMPLE_BATCH} and fails on one of {count}: it must "
        "answer any number of items. Where that number is written into it, as in reshape(2, ...), take "
        "x.shape[0] or -1; where a dim of 1 is lost, as in squeeze(), name the dim"
    )


def _random_range(sample: Sample) -> str:
    values = [array for array in sample if array.dtype.kind in "iu" and array.size]
    return (
        f", here {min(array.min() for array in values)} to {max(array.max() for array in values)}"
        if values
        else ""
    )


def _check_answer(spec: ModelSpec, answer: Any) -> None:
    names = [tensor.name for tensor in spec.graph_outputs]
    if isinstance(answer, torch.Tensor):
        answer = (answer,)
    ordered = isinstance(answer, tuple | list)
    if ordered and hasattr(answer, "_fields"):
        ordered = len(answer) == len(names)  # of another number its fields say more
    if ordered and all(isinstance(value, torch.Tensor) for value in answer):
        if len(answer) != len(names):
            raise SpecError(
                f"the network of {spec.name} returns {counted(len(answer), 'tensor')}, and the spec has "
                f"{len(names)} outputs and states ({', '.join(names)}): `served` returns one for each, in "
                "that order"
            )
        if whole := [name for name, value in zip(names, answer, strict=True) if value.ndim == 0]:
            raise SpecError(
                f"the network of {spec.name} returns one number for the whole batch as {', '.join(whole)}: "
                "return one for each item, the batch first (reduction='none', or .mean(1) for .mean())"
            )
        return
    raise SpecError(
        f"the network of {spec.name} returns {_described(answer)}, and the outputs of a graph have an order "
        f"and no keys: return a tuple of tensors, one for each of {', '.join(names)}, in that order. Wrap "
        "the network in `served` if you cannot change it:\n"
        f"  class Served(nn.Module):\n      ...\n      def forward(self, *inputs):\n"
        f"          out = self.network(*inputs)\n          return {_picked(answer, names)}"
    )


def _fields(answer: object) -> list[str] | None:
    if isinstance(answer, dict):
        return [str(key) for key in answer]
    if hasattr(answer, "_fields"):
        return list(answer._fields)
    if dataclasses.is_dataclass(answer):
        return [field.name for field in dataclasses.fields(answer)]
    return None


def _described(answer: object) -> str:
    kind = type(answer).__name__
    fields = _fields(answer)
    if fields is not None:
        return f"a {kind} of {', '.join(fields) or 'nothing'}"
    if isinstance(answer, tuple | list):
        return f"a {kind} of {', '.join(type(value).__name__ for value in answer)}"
    return "nothing" if answer is None else f"a {kind}"


def _picked(answer: object, names: list[str]) -> str:
    fields = _fields(answer) or []
    chosen = [name if name in fields else f"<{name}>" for name in names]
    if len(fields) == len(names):
        chosen = [name if name in fields else field for name, field in zip(names, fields, strict=True)]
    picked = (f'out["{name}"]' if isinstance(answer, dict) else f"out.{name}" for name in chosen)
    return ", ".join(picked)
