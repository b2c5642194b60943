"""TV6xx: warm-up samples, as core makes and runs them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from export.common.wording import counted
from export.lint.comparison import data_type_name, loosely_equal, near
from export.lint.reading.repository import Model, Repository
from export.lint.rules import WARNING, Finding
from server.environment.regular_files import read_regular

__all__ = ["BYTES", "check"]

FOLDER = "warmup"
BYTES = {
    "TYPE_BOOL": 1, "TYPE_UINT8": 1, "TYPE_INT8": 1, "TYPE_UINT16": 2, "TYPE_INT16": 2, "TYPE_FP16": 2,
    "TYPE_BF16": 2, "TYPE_UINT32": 4, "TYPE_INT32": 4, "TYPE_FP32": 4, "TYPE_UINT64": 8, "TYPE_INT64": 8,
    "TYPE_FP64": 8,
}  # fmt: skip


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV601 to TV605; nothing for ensembles, which may have no warm-up (TV501)."""
    if model.is_ensemble:
        return
    for index, sample in enumerate(model.config.model_warmup):
        where = ("model_warmup", index)
        label = f"warm-up {sample.name!r}" if sample.name else f"warm-up {index}"
        yield from _batch(model, sample, where, label)
        yield from _names(model, sample, where, label)
        for name in sorted(sample.inputs):
            yield from _input(model, name, sample.inputs[name], (*where, "inputs", name), label)


def _batch(model: Model, sample: Any, where: tuple[Any, ...], label: str) -> Iterator[Finding]:
    largest = model.signature.max_batch_size
    if sample.batch_size == 0:
        yield model.finding(
            "TV604",
            f"{label} has batch_size 0, so Triton skips it",
            "write batch_size: 1 or more",
            *where,
            "batch_size",
            severity=WARNING,
        )
    elif largest is not None and sample.batch_size > max(largest, 1):
        yield model.finding(
            "TV604",
            f"{label} has batch_size {sample.batch_size}, max_batch_size is {largest}",
            f"write at most {max(largest, 1)}",
            *where,
            "batch_size",
        )


def _names(model: Model, sample: Any, where: tuple[Any, ...], label: str) -> Iterator[Finding]:
    inputs = model.signature.inputs
    if inputs is None:
        return
    batching = model.config.sequence_batching
    fed = {entry.name for entry in batching.control_input} | {entry.input_name for entry in batching.state}
    for name in sorted(sample.inputs):
        if name not in inputs and name not in fed and not model.signature.more:
            yield model.finding(
                "TV602",
                f"{label} feeds {name!r}, the model's inputs are {', '.join(map(repr, inputs))}",
                near(name, inputs) or "write a name of the model's inputs",
                *where,
                "inputs",
                name,
            )
    missing = [name for name, entry in inputs.items() if name not in sample.inputs and not entry.optional]
    unknown = [name for name in sample.inputs if name not in inputs and name not in fed]
    for name in missing[len(unknown) :]:
        yield model.finding("TV602", f"{label} leaves out {name!r}", "add it to the sample", *where)


def _input(model: Model, name: str, given: Any, where: tuple[Any, ...], label: str) -> Iterator[Finding]:
    dims, data_type = list(given.dims), data_type_name(given.data_type)
    if any(dim < 1 for dim in dims):
        yield model.finding(
            "TV601",
            f"{label} feeds {name!r} with dims {dims}; every one must have a size",
            "write the sizes to warm up with",
            *where,
            "value",
            "dims",
        )
        dims = []
    entry = (model.signature.inputs or {}).get(name)
    if entry is not None and dims and entry.dims and not loosely_equal(dims, list(entry.dims)):
        with_batch = len(dims) == len(entry.dims) + 1 and loosely_equal(dims[1:], list(entry.dims))
        yield model.finding(
            "TV603",
            f"{label} feeds {name!r} with dims {dims}, the input has {list(entry.dims)}",
            f"leave the batch out: {dims[1:]}; batch_size says it"
            if with_batch
            else "write the input's dims",
            *where,
            "value",
            "dims",
        )
    if entry is not None and entry.data_type and given.data_type != entry.data_type:
        expected = data_type_name(entry.data_type)
        yield model.finding(
            "TV603",
            f"{label} feeds {name!r} as {data_type}, the input is {expected}",
            f"write data_type: {expected}",
            *where,
            "value",
            "data_type",
        )
    yield from _data(model, name, given, where, label, math.prod(dims) if dims else 0)


def _data(
    model: Model, name: str, given: Any, where: tuple[Any, ...], label: str, elements: int
) -> Iterator[Finding]:
    data_type = data_type_name(given.data_type)
    needed = elements * BYTES.get(data_type, 0)
    if not given.WhichOneof("input_data_type"):
        problem, fix = "without data", "add zero_data: true, random_data: true or input_data_file"
    elif not given.input_data_file:
        return
    else:
        file = model.folder / FOLDER / given.input_data_file
        if not file.is_file():
            problem = f"from {FOLDER}/{given.input_data_file}, which is not there"
            fix = f"put the file into the folder {FOLDER} beside the config"
        elif data_type == "TYPE_STRING" and elements and (strings := _strings(file)) != elements:
            found = "no lengths before its texts" if strings is None else counted(strings, "text")
            problem = f"from {given.input_data_file}: {found} where its dims need {counted(elements, 'text')}"
            fix = "write each text behind its length: tritonclient.utils.serialize_byte_tensor"
        elif file.stat().st_size < needed:
            problem = (
                f"from {given.input_data_file}: {file.stat().st_size} bytes where its dims need {needed}"
            )
            fix = "give the raw values of the tensor, not an encoded file"
        else:
            return
    yield model.finding("TV605", f"{label} feeds {name!r} {problem}", fix, *where, "value")


def _strings(file: Path) -> int | None:
    """How many texts it holds, each behind its length in four bytes; None where it holds something else."""
    data, position, count = read_regular(file), 0, 0
    while position + 4 <= len(data):
        position += 4 + int.from_bytes(data[position : position + 4], "little")
        count += 1
    return count if position == len(data) else None
