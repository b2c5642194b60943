"""TV2xx that need no graph: entries of `input` and `output`, as core checks them."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelInput

from export.lint.reading.completion import NOTHING, SECTIONS
from export.lint.reading.repository import Model, Repository
from export.lint.rules import ERROR, WARNING, Finding

__all__ = ["check"]

TENSORRT = "tensorrt"
COUNTING_BACKENDS = {"onnxruntime", TENSORRT}
TENSORRT_TYPES = {
    "TYPE_BOOL",
    "TYPE_UINT8",
    "TYPE_INT8",
    "TYPE_INT32",
    "TYPE_INT64",
    "TYPE_FP16",
    "TYPE_FP32",
    "TYPE_BF16",
}


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV206 (of TorchScript), TV207 to TV209, TV212 (of TensorRT), TV213 and TV313."""
    config = model.config
    if config.max_batch_size < 0:
        yield model.finding(
            "TV313", f"max_batch_size is {config.max_batch_size}", "write 0 for no batching", "max_batch_size"
        )
    for kind, entries in (("input", config.input), ("output", config.output)):
        for index, entry in enumerate(entries):
            where = (kind, index)
            for problem, fix in _problems(model, kind, entry):
                yield model.finding("TV209", f"{kind} {entry.name!r}: {problem}", fix, *where)
            yield from _reshape(model, kind, entry, where)
            data_type = (
                ModelInput.DESCRIPTOR.fields_by_name["data_type"]
                .enum_type.values_by_number[entry.data_type]
                .name
            )
            if model.backend == TENSORRT and entry.data_type and data_type not in TENSORRT_TYPES:
                yield model.finding(
                    "TV212",
                    f"{kind} {entry.name!r} is {data_type}, which no TensorRT engine has",
                    "write the type of the engine's tensor",
                    *where,
                    "data_type",
                )
        counts = Counter(entry.name for entry in entries if entry.name)
        for name, count in counts.items():
            if count > 1:
                last = max(index for index, entry in enumerate(entries) if entry.name == name)
                counted = kind == "input" and model.backend in COUNTING_BACKENDS
                yield model.finding(
                    "TV207",
                    f"{kind} {name!r} is listed {count} times"
                    + (", and the backend counts its inputs" if counted else "; Triton keeps the first"),
                    "keep one of them",
                    kind,
                    last,
                    severity=ERROR if counted else None,
                )
    yield from _batch_tensors(model)
    if model.backend == "pytorch" and not config.runtime and not (config.input and config.output):
        lacking = "output" if config.input else "input"
        yield model.finding(
            "TV206",
            f"the config lists no {lacking}, and nothing completes it: a TorchScript file does not name its "
            "tensors",
            f"list every {lacking}, as {lacking.upper()}__0 and so on",
            lacking,
        )
    unfed = model.backend == "python" and model.completion == NOTHING and not config.input
    batch = model.signature.max_batch_size
    if unfed and (batch or not config.output):
        consequence = (
            f"every request is refused, as max_batch_size is {batch}"
            if batch
            else "requests that send a tensor are refused, and without outputs answers are empty"
        )
        yield model.finding(
            "TV206",
            f"the config lists no input, and model.py has no auto_complete_config to add one: {consequence}",
            "list the inputs and outputs that model.py reads and makes",
            severity=None if batch else WARNING,
        )


def _problems(model: Model, kind: str, entry: Any) -> Iterator[tuple[str, str]]:
    if model.completion in (NOTHING, SECTIONS):  # else the backend fills in what is left out
        if not entry.name:
            yield "it has no name", "write the name of the tensor"
        if not entry.data_type:
            yield "it has no data_type", "write data_type: TYPE_..."
        if not entry.dims:
            yield "it has no dims", "write dims: [ ... ], without the batch; [ 1 ] for a single value"
    if any(dim < 1 and dim != -1 for dim in (*entry.dims, *entry.reshape.shape)):
        yield (
            f"dims {list(entry.dims or entry.reshape.shape)} have a size below 1",
            "write -1 for an open dim",
        )
    if entry.HasField("reshape") and not entry.reshape.shape and model.signature.max_batch_size == 0:
        yield "an empty reshape needs a batch dimension", "remove it, or set max_batch_size"
    if model.backend != TENSORRT and (model.backend or model.is_ensemble):
        if entry.is_shape_tensor:
            yield "shape tensors are TensorRT's", "remove is_shape_tensor"
        if entry.is_non_linear_format_io:
            yield "formats that are not linear are TensorRT's", "remove is_non_linear_format_io"
    elif entry.is_non_linear_format_io and entry.dims and len(entry.dims) != 3:
        yield (
            f"a format that is not linear needs 3 dims, it has {len(entry.dims)}",
            "remove is_non_linear_format_io, or correct the dims",
        )
    if kind == "input":
        if entry.format in (ModelInput.FORMAT_NHWC, ModelInput.FORMAT_NCHW) and len(entry.dims) != 3:
            name = ModelInput.Format.Name(entry.format)
            yield f"{name} needs 3 dims, it has {len(entry.dims)}", "remove the format, or correct the dims"
        if entry.optional and model.signature.max_batch_size and model.backend == "onnxruntime":
            yield (
                "the ONNX Runtime backend takes optional inputs only without batching",
                "remove optional, or set max_batch_size: 0",
            )


def _reshape(model: Model, kind: str, entry: Any, where: tuple[Any, ...]) -> Iterator[Finding]:
    if not entry.HasField("reshape") or not entry.dims:
        return
    dims, shape = list(entry.dims), list(entry.reshape.shape)
    if _pieces(dims) != _pieces(shape):
        yield model.finding(
            "TV208",
            f"{kind} {entry.name!r} is reshaped from {dims} to {shape}, which has another number of elements",
            "give both the same number, also between dims of -1",
            *where,
            "reshape",
        )


def _pieces(dims: Sequence[int]) -> list[int]:
    """Elements of the pieces between open dims: [2, 4, -1, 6] and [8, -1, 6] are alike, as core has it."""
    pieces: list[list[int]] = [[]]
    for dim in dims:
        if dim == -1:
            pieces.append([])
        else:
            pieces[-1].append(dim)
    return [math.prod(piece) for piece in pieces]


def _batch_tensors(model: Model) -> Iterator[Finding]:
    config = model.config
    inputs = {entry.name for entry in config.input}
    outputs = {entry.name for entry in config.output}
    for field, entries in (("batch_input", config.batch_input), ("batch_output", config.batch_output)):
        seen: set[str] = set()
        for index, entry in enumerate(entries):
            problem, severity = _batch_problem(model, field, entry, inputs, outputs, seen)
            seen |= set(entry.target_name)
            if problem:
                yield model.finding(
                    "TV213",
                    f"{field} {index}: {problem}",
                    "correct the entry",
                    field,
                    index,
                    severity=severity,
                )


def _batch_problem(
    model: Model, field: str, entry: Any, inputs: set[str], outputs: set[str], seen: set[str]
) -> tuple[str, str | None]:
    """What is wrong, or "", and how bad where that is not an error. seen: targets of earlier entries."""
    unknown = [name for name in entry.source_input if name not in inputs]
    targets = [name for name in entry.target_name if name not in outputs]
    twice = [name for name, count in Counter(entry.target_name).items() if count > 1]
    again = [name for name in entry.target_name if name in seen]
    if len(entry.source_input) != 1:
        return f"it needs one source_input and has {len(entry.source_input)}", None
    if unknown and inputs:
        return f"its source_input {unknown[0]!r} is not an input", None
    if field == "batch_output":
        if targets and outputs:
            return f"its target_name {targets[0]!r} is not an output", None
        if twice:
            return f"its target_name {twice[0]!r} is listed twice", None
        if again:
            return f"{again[0]!r} is the target of an entry above, which Triton follows", WARNING
    elif entry.data_type not in (_TYPE_INT32, _TYPE_FP32):
        return "its data_type is neither TYPE_INT32 nor TYPE_FP32", None
    elif twice or again:
        name = (twice or again)[0]
        if again and model.backend in COUNTING_BACKENDS:
            return f"{name!r} is the target of an entry above, too, and the backend counts its inputs", None
        return f"its target_name {name!r} is listed twice", WARNING
    return "", None


_DATA_TYPES = ModelInput.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name
_TYPE_INT32, _TYPE_FP32 = _DATA_TYPES["TYPE_INT32"].number, _DATA_TYPES["TYPE_FP32"].number
