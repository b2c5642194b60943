"""TensorProto and Triton's tensors: the same bytes, as far as they are.

`tensor_content` is what Triton takes as raw contents. Of the typed fields, floats, doubles and booleans have
those very bytes on the wire, so they are moved whole; the others are packed integers, which numpy converts.
"""

import math
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .messages import message
from .refusal import Refusal, StatusCode, invalid

__all__ = [
    "DTYPES",
    "MOST_DIMS",
    "Dtype",
    "Tensor",
    "by_datatype",
    "check_examples",
    "fill",
    "of_proto",
    "packed_strings",
    "strings_of",
]

MOST_DIMS = 254  # of TensorFlow's TensorShape
MOST_EXAMPLES = 2**17  # in a request: each takes two bytes of it, and microseconds in which nobody is served
TensorProto = message("tensorflow.TensorProto")


class Dtype(NamedTuple):
    """A dtype of both sides.

    number, name: TensorFlow's. datatype: Triton's. field: of TensorProto.
    numpy: of an item in raw contents, little-endian; None for strings.
    as_wire: whether the field's packed bytes are the raw contents.
    """

    number: int
    name: str
    datatype: str
    field: str
    numpy: np.dtype[Any] | None
    as_wire: bool = False


def _dtype(number: int, name: str, datatype: str, field: str, items: str, as_wire: bool = False) -> Dtype:
    return Dtype(number, name, datatype, field, np.dtype(items) if items else None, as_wire)


DTYPES = {
    dtype.number: dtype
    for dtype in (
        _dtype(1, "DT_FLOAT", "FP32", "float_val", "<f4", as_wire=True),
        _dtype(2, "DT_DOUBLE", "FP64", "double_val", "<f8", as_wire=True),
        _dtype(3, "DT_INT32", "INT32", "int_val", "<i4"),
        _dtype(4, "DT_UINT8", "UINT8", "int_val", "u1"),
        _dtype(5, "DT_INT16", "INT16", "int_val", "<i2"),
        _dtype(6, "DT_INT8", "INT8", "int_val", "i1"),
        _dtype(7, "DT_STRING", "BYTES", "string_val", ""),
        _dtype(9, "DT_INT64", "INT64", "int64_val", "<i8"),
        _dtype(10, "DT_BOOL", "BOOL", "bool_val", "?", as_wire=True),
        _dtype(14, "DT_BFLOAT16", "BF16", "half_val", "<u2"),
        _dtype(17, "DT_UINT16", "UINT16", "int_val", "<u2"),
        _dtype(19, "DT_HALF", "FP16", "half_val", "<u2"),
        _dtype(22, "DT_UINT32", "UINT32", "uint32_val", "<u4"),
        _dtype(23, "DT_UINT64", "UINT64", "uint64_val", "<u8"),
    )
}
_BY_DATATYPE = {dtype.datatype: dtype for dtype in DTYPES.values()}
_NAMES = {
    value.number: value.name for value in TensorProto.DESCRIPTOR.fields_by_name["dtype"].enum_type.values
}
_WIRE_KEYS = {  # field number and wire type 2 (length-delimited): a byte, as the numbers are below 16
    dtype.field: bytes([TensorProto.DESCRIPTOR.fields_by_name[dtype.field].number << 3 | 2])
    for dtype in DTYPES.values()
    if dtype.as_wire
}


class Tensor(NamedTuple):
    """shape: with the batch. raw: contents as Triton takes and gives them."""

    dtype: Dtype
    shape: tuple[int, ...]
    raw: bytes


def by_datatype(datatype: str) -> Dtype:
    """Of Triton's name. Raises `Refusal` for one that TensorFlow lacks."""
    if datatype not in _BY_DATATYPE:
        raise Refusal(StatusCode.UNIMPLEMENTED, f"Triton's datatype {datatype} has none of TensorFlow's")
    return _BY_DATATYPE[datatype]


def check_examples(count: int) -> None:
    """Raises a `Refusal` for more in a request than there may be."""
    if count > MOST_EXAMPLES:
        raise invalid(f"Input has more than {MOST_EXAMPLES} examples; send them in several requests")


def of_proto(name: str, proto: Any, most_bytes: int) -> Tensor:
    """Of a TensorProto, the input `name`. Raises `Refusal` for what is malformed or too large."""
    dtype = DTYPES.get(proto.dtype)
    if dtype is None:
        told = _NAMES.get(proto.dtype, f"number {proto.dtype}")
        raise invalid(f"tensor parsing error: {name}: dtype {told} is not supported")
    shape = tuple(
        [dim.size for dim in proto.tensor_shape.dim[: MOST_DIMS + 1]]
    )  # a request may hold millions
    if proto.tensor_shape.unknown_rank or len(shape) > MOST_DIMS or min(shape, default=0) < 0:
        raise invalid(f"tensor parsing error: {name}: shape {list(shape[:9])} is not fully defined")
    count = math.prod(shape)
    item_bytes = dtype.numpy.itemsize if dtype.numpy else 4
    if count * item_bytes > most_bytes:
        raise invalid(
            f"tensor parsing error: {name}: shape {list(shape[:9])} takes more than {most_bytes} bytes"
        )
    content = proto.tensor_content
    if dtype.numpy is None:
        values: list[bytes] = (
            _string_list(name, content, count) if content else list(proto.string_val[:count])
        )
        fill_value = values[-1] if values else b""
        if sum(map(len, values)) + (count - len(values)) * len(fill_value) > most_bytes:
            raise invalid(f"tensor parsing error: {name}: its strings take more than {most_bytes} bytes")
        repeated = packed_strings([fill_value]) * (count - len(values))  # a shape alone may ask for millions
        return Tensor(dtype, shape, packed_strings(values) + repeated)
    if content:
        if len(content) != count * item_bytes:
            raise invalid(
                f"tensor parsing error: {name}: tensor_content has {len(content)} bytes, and {dtype.name} of "
                f"shape {list(shape[:9])} takes {count * item_bytes}"
            )
        return Tensor(dtype, shape, content)
    return Tensor(dtype, shape, _of_values(proto, dtype, count))


def _of_values(proto: Any, dtype: Dtype, count: int) -> bytes:
    """The typed field: what is missing repeats the last value, and is 0 where there is none."""
    values = getattr(proto, dtype.field)
    assert dtype.numpy is not None
    size = dtype.numpy.itemsize
    if dtype.as_wire:
        only = TensorProto()
        getattr(only, dtype.field).MergeFrom(values)
        raw = only.SerializeToString()[-len(values) * size :] if values else b""
    else:
        values = values[:count]
        raw = (
            np.fromiter(values, np.int64 if dtype.field != "uint64_val" else np.uint64, len(values))
            .astype(dtype.numpy)
            .tobytes()
        )
    if len(values) == count:
        return raw
    return raw[: count * size] + (raw[-size:] or bytes(size)) * (count - len(values))


def fill(proto: Any, tensor: Tensor) -> None:
    """Write `tensor` to an empty TensorProto, in its typed field, as TensorFlow Serving does."""
    dtype, shape, raw = tensor
    proto.dtype = dtype.number
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype.numpy is None:
        proto.string_val.extend(strings_of(raw))
    elif dtype.as_wire:
        proto.MergeFromString(_WIRE_KEYS[dtype.field] + _varint(len(raw)) + raw)
    else:
        getattr(proto, dtype.field).extend(np.frombuffer(raw, dtype.numpy).tolist())


def packed_strings(values: Iterable[bytes]) -> bytes:
    """As Triton has them: the length of each in four bytes, and its bytes."""
    return b"".join([part for value in values for part in (struct.pack("<I", len(value)), value)])


def strings_of(raw: bytes) -> list[bytes]:
    """Of `packed_strings`."""
    values, position = [], 0
    while position < len(raw):
        (size,) = struct.unpack_from("<I", raw, position)
        values.append(raw[position + 4 : position + 4 + size])
        position += 4 + size
    return values


def _string_list(name: str, content: bytes, count: int) -> list[bytes]:
    """As TensorFlow has strings in tensor_content: all lengths as varints, then all bytes."""
    sizes, position = [], 0
    try:
        for _ in range(count):
            size = shift = 0
            while True:
                byte = content[position]
                size |= (byte & 0x7F) << shift
                position, shift = position + 1, shift + 7
                if byte < 0x80:
                    break
                if shift > 63:  # else megabytes of it are one number, and hours of work
                    raise IndexError
            sizes.append(size)
    except IndexError:
        sizes = [-1]
    if sum(sizes) != len(content) - position:
        raise invalid(f"tensor parsing error: {name}: tensor_content holds no {count} strings")
    values = []
    for size in sizes:
        values.append(content[position : position + size])
        position += size
    return values


def _varint(number: int) -> bytes:
    """As protobuf writes lengths: seven bits a byte, the lowest first."""
    rest, low = divmod(number, 0x80)
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
