"""Answers of tritonserver, read from their bytes and compared. It knows nothing of who asked.

Without tritonclient and protobuf, which serving does not need: of a message only the outputs are read.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Output", "alike", "of_grpc", "of_http"]

DTYPES = {
    **{"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"},
    **{
        f"{sign}INT{bits}": f"<{letter}{bits // 8}"
        for sign, letter in (("", "i"), ("U", "u"))
        for bits in (8, 16, 32, 64)
    },
}
CLASS = re.compile(
    rb"(-?[0-9.]+(?:[eE][-+]?[0-9]+)?|-?inf|-?nan):(\d+.*)", re.DOTALL
)  # of the classification extension
RELATIVE, ABSOLUTE = 1e-3, 1e-5  # of values that are no scores of classes
OUTPUTS, RAW = 5, 6  # fields of ModelInferResponse
NAME, DATATYPE, SHAPE = 1, 2, 3  # fields of InferOutputTensor
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Output(NamedTuple):
    """values: flat; of BYTES a list."""

    shape: tuple[int, ...]
    values: NDArray[np.generic] | list[bytes]


def of_http(body: bytes, head: int | None) -> dict[str, Output]:
    """By name. head: bytes of JSON before the binary tensors, None for JSON alone. Raises `ValueError`."""
    told = json.loads(body[:head] if head is not None else body)
    at, outputs = head or 0, {}
    for output in told.get("outputs", []):
        shape, datatype = tuple(output["shape"]), output["datatype"]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            outputs[output["name"]] = Output(shape, _decoded(datatype, body[at : at + size]))
            at += size
        elif datatype == "BYTES":
            outputs[output["name"]] = Output(shape, [str(value).encode() for value in _flat(output["data"])])
        else:
            values = np.array(list(_flat(output["data"])), DTYPES.get(datatype, "<f8"))
            outputs[output["name"]] = Output(shape, values)
    return outputs


def of_grpc(message: bytes) -> dict[str, Output]:
    """The same of a ModelInferResponse."""
    described, raw = [], []
    for number, value in _fields(message):
        if number == OUTPUTS and isinstance(value, bytes):
            described.append(_described(value))
        elif number == RAW and isinstance(value, bytes):
            raw.append(value)
    return {
        name: Output(shape, _decoded(datatype, content))
        for (name, datatype, shape), content in zip(described, raw, strict=True)
    }


def _described(message: bytes) -> tuple[str, str, tuple[int, ...]]:
    name, datatype, shape = "", "", []
    for number, value in _fields(message):
        if number == NAME and isinstance(value, bytes):
            name = value.decode()
        elif number == DATATYPE and isinstance(value, bytes):
            datatype = value.decode()
        elif number == SHAPE:
            shape += [value] if isinstance(value, int) else list(_varints(value))
    return name, datatype, tuple(shape)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise ValueError("that is no answer of tritonserver")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 0x80:
            return value, at
    raise ValueError("an answer of tritonserver breaks off")


def _varints(message: bytes) -> Iterator[int]:
    at = 0
    while at < len(message):
        value, at = _varint(message, at)
        yield value


def _flat(data: object) -> Iterator[object]:
    if isinstance(data, list):
        for entry in data:
            yield from _flat(entry)
    else:
        yield data


def _decoded(datatype: str, raw: bytes) -> NDArray[np.generic] | list[bytes]:
    if datatype == "BYTES":
        values, at = [], 0
        while at + 4 <= len(raw):
            size = int.from_bytes(raw[at : at + 4], "little")
            values.append(raw[at + 4 : at + 4 + size])
            at += 4 + size
        return values
    if datatype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, DTYPES[datatype])


def alike(old: dict[str, Output], new: dict[str, Output]) -> tuple[bool, float]:
    """Whether two answers agree, and by how much their numbers differ at most.

    Floats of several along the last axis are scores: the highest has to be at the same place. Other floats
    have to be within `RELATIVE`, all else the same. Classes of the classification extension are compared
    without their scores.
    """
    if old.keys() != new.keys() or any(old[name].shape != new[name].shape for name in old):
        return False, float("inf")
    pairs = [_alike(old[name], new[name]) for name in old]
    return all(agrees for agrees, _ in pairs), max((difference for _, difference in pairs), default=0.0)


def _alike(old: Output, new: Output) -> tuple[bool, float]:
    a, b = old.values, new.values
    if isinstance(a, list) or isinstance(b, list):
        if not (isinstance(a, list) and isinstance(b, list)):
            return False, float("inf")
        classes = [(CLASS.fullmatch(x), CLASS.fullmatch(y)) for x, y in zip(a, b, strict=False)]
        if classes and all(x and y for x, y in classes):
            differences = [abs(float(x[1]) - float(y[1])) for x, y in classes if x and y]
            return all(x[2] == y[2] for x, y in classes if x and y), max(differences)
        return a == b, 0.0 if a == b else float("inf")
    if a.dtype != b.dtype or a.size != b.size:
        return False, float("inf")
    if a.dtype.kind != "f":
        differs = a != b
        return not differs.any(), float(np.abs(a.astype(float) - b.astype(float)).max(initial=0.0))
    x, y = a.astype(np.float64), b.astype(np.float64)
    if (np.isnan(x) != np.isnan(y)).any():
        return False, float("inf")
    same = (x == y) | np.isnan(x)
    difference = float(np.abs(np.subtract(x, y, out=np.zeros_like(x), where=~same)).max(initial=0.0))
    width = old.shape[-1] if old.shape else 1
    if width > 1:
        return bool((x.reshape(-1, width).argmax(1) == y.reshape(-1, width).argmax(1)).all()), difference
    return bool((same | np.isclose(x, y, RELATIVE, ABSOLUTE)).all()), difference
