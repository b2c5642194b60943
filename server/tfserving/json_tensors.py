"""Tensors in TensorFlow Serving's JSON: rows ("instances", "predictions") and columns ("inputs", "outputs").

Bytes are {"b64": "..."}. NaN, Infinity and -Infinity are written so, as they are read.
"""

import base64
import binascii
import json
import math
import reprlib
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .triton import Signature
from .wire.messages import message
from .wire.refusal import Refusal, StatusCode, invalid
from .wire.tensors import DTYPES, MOST_DIMS, Dtype, Tensor, check_examples, packed_strings, strings_of

__all__ = ["ROW", "examples_of", "inputs_of", "outputs_as", "parsed", "shortest", "signature_name"]

ROW, COLUMN = "instances", "inputs"
BYTES_SUFFIX = "_bytes"  # of outputs whose strings are written as b64
MOST_VALUES = 2**23  # in a document: a value takes up to 70 bytes of memory, and a few at least
WHITESPACE = " \t\r\n"
Input = message("tensorflow.serving.Input")
Document = dict[str, Any]
_STRING = DTYPES[7]
# Known by their identity: a number too large for a double is an infinity, too, and another object.
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_DECODER = json.JSONDecoder(parse_constant=_CONSTANTS.__getitem__)


def parsed(body: bytes) -> Document:
    """Raises `Refusal` for what is not a JSON object; what follows the object is ignored."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
        raise invalid(
            f"JSON Parse error: more than {MOST_VALUES} values; send tensors of that size over gRPC"
        )
    try:
        document, _ = _DECODER.raw_decode(body.decode().lstrip(WHITESPACE))
    except RecursionError:
        raise invalid("JSON Parse error: nested too deep") from None
    except ValueError as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {reprlib.repr(document)} Is not object")
    return document


def signature_name(document: Document) -> str:
    """Of any request; "" where it names none. Raises `Refusal`."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"JSON Value: {reprlib.repr(name)} 'signature_name' key must be a string value.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: 'signature_name' holds half of a surrogate pair") from None
    return name


def inputs_of(document: Document, signature: Signature) -> tuple[str, dict[str, Tensor]]:
    """`ROW` or `COLUMN`, and the tensors of a predict request. Raises `Refusal`."""
    keys = [key for key in (ROW, COLUMN) if key in document]
    if not keys:
        raise invalid("Missing 'inputs' or 'instances' key")
    if len(keys) == 2:
        raise invalid("Not formatted correctly expecting only one of 'inputs' and 'instances' keys to exist")
    (form,), names = keys, list(signature.inputs)
    value = document[form]
    if form == ROW:
        if not isinstance(value, list):
            raise invalid("Expecting 'instances' value to be an list/array")
        if not value:
            raise invalid("No values in 'instances' array.")
        columns = _columns(value, names)
    elif isinstance(value, dict) and not _is_b64(value):
        columns = value
        for name in names:
            if name not in value:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
    else:
        if len(names) != 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                "per tensorinfo_map"
            )
        columns = {names[0]: value}
    return form, {name: _tensor(columns[name], spec.dtype) for name, spec in signature.inputs.items()}


def _columns(rows: list[Any], names: list[str]) -> Mapping[str, Any]:
    """Of "instances": each a value, or an object with a value for each input."""
    if not isinstance(rows[0], dict) or _is_b64(rows[0]):
        if len(names) != 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors "
                "required as per tensorinfo_map"
            )
        for number, row in enumerate(rows):
            if isinstance(row, dict) and not _is_b64(row):
                raise invalid(f"Expecting value/list but got object at item {number} of input list")
        return {names[0]: rows}
    known = set(names)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        if row.keys() != known:
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {reprlib.repr(row)} "
                f"keys must be equal to: {','.join(sorted(known))}"
            )
    return {name: [row[name] for row in rows] for name in names}


def _tensor(value: Any, dtype: Dtype) -> Tensor:
    """Level by level, all of a level at once."""
    shape: list[int] = []
    items = [value]
    while items and type(items[0]) is list:
        size = len(items[0])
        if set(map(type, items)) != {list}:
            raise invalid(f"JSON Value found at incorrect level: {len(shape) + 1} in the JSON DOM")
        if set(map(len, items)) != {size}:
            other = next(len(item) for item in items if len(item) != size)
            raise invalid(
                f"Encountered list at unexpected size: {other} at level: {len(shape)} expected size: {size}"
            )
        shape.append(size)
        if len(shape) > MOST_DIMS:
            raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {MOST_DIMS}")
        items = list(chain.from_iterable(items))
    return Tensor(dtype, tuple(shape), _raw(items, dtype))


def _raw(items: list[Any], dtype: Dtype) -> bytes:
    kinds = set(map(type, items))
    if dtype.numpy is None:
        return packed_strings([_bytes_of(item, dtype) for item in items])
    if dtype.name == "DT_BFLOAT16":
        raise Refusal(StatusCode.UNIMPLEMENTED, "Conversion of JSON Value to type: bfloat16")
    if dtype.name in ("DT_FLOAT", "DT_DOUBLE", "DT_HALF"):
        return _raw_floats(items, dtype)
    allowed = {bool} if dtype.name == "DT_BOOL" else {int}
    if not kinds <= allowed:
        raise _unexpected(next(item for item in items if type(item) not in allowed), dtype)
    if allowed == {int} and items:
        limits = np.iinfo(dtype.numpy)
        for extreme in (min(items), max(items)):
            if not limits.min <= extreme <= limits.max:
                raise _unexpected(extreme, dtype)
    return np.array(items, dtype.numpy).tobytes()


def _raw_floats(items: list[Any], dtype: Dtype) -> bytes:
    """Raises `Refusal`, as TensorFlow Serving does, for numbers that the type cannot hold as they are."""
    if other := set(map(type, items)) - {int, float}:
        raise _unexpected(next(item for item in items if type(item) in other), dtype)
    kind = np.dtype("<f2" if dtype.name == "DT_HALF" else dtype.numpy)
    try:
        values = np.array(items, np.float64)
    except OverflowError:
        raise _too_big() from None
    for place in np.flatnonzero(np.isinf(values)):
        if not any(items[place] is constant for constant in _CONSTANTS.values()):
            raise _too_big()
    sizes = np.where(np.isfinite(values), np.abs(values), 0)
    whole = 2 ** (
        np.finfo(kind).nmant + 1
    )  # integers from here on have gaps; those beyond 64 bits are doubles
    for place in np.flatnonzero(sizes >= whole):
        integer = type(items[place]) is int and -(2**63) <= items[place] < 2**64
        if integer or sizes[place] > np.finfo(kind).max:
            raise _lossy(items[place], dtype)
    return values.astype(kind).tobytes()


def _too_big() -> Refusal:
    return invalid("JSON Parse error: Number too big to be stored in double.")


def _lossy(item: float, dtype: Dtype) -> Refusal:
    kind = dtype.name.removeprefix("DT_").lower()
    return invalid(f"Cannot convert JSON value: {reprlib.repr(item)} to {kind} without loss of precision.")


def _bytes_of(item: Any, dtype: Dtype) -> bytes:
    if isinstance(item, dict):
        if not _is_b64(item):
            raise invalid(
                f"JSON Value: {reprlib.repr(item)} not formatted correctly for base64 data; "
                'it is {"b64": "..."}'
            )
        return _decoded(item)
    if not isinstance(item, str):
        raise _unexpected(item, dtype)
    try:
        return item.encode()
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: a string holds half of a surrogate pair") from None


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _decoded(item: Mapping[str, str]) -> bytes:
    text = item["b64"].rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _unexpected(item: Any, dtype: Dtype) -> Refusal:
    kind = {type(None): "Null", bool: str(item), str: "String", dict: "Object", list: "Array"}
    told = reprlib.repr(item) if not isinstance(item, int) or abs(item) < 2**70 else "a number"
    expected = dtype.name.removeprefix("DT_").lower()
    return invalid(
        f"JSON Value: {told} Type: {kind.get(type(item), 'Number')} is not of expected type: {expected}"
    )


def outputs_as(form: str, outputs: Mapping[str, Tensor]) -> Document:
    """The answer to a predict request of that form. Raises `Refusal` for what has no rows."""
    values = {name: _values(name, tensor) for name, tensor in outputs.items()}
    if not values:
        raise invalid("Cannot convert empty tensor map to JSON")
    if form == COLUMN:
        return {"outputs": values if len(values) > 1 else next(iter(values.values()))}
    count = None
    for name, tensor in outputs.items():
        if not tensor.shape:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if count not in (None, tensor.shape[0]):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {tensor.shape[0]} expecting: {count}"
            )
        count = tensor.shape[0]
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    return {
        "predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    }


def _values(name: str, tensor: Tensor) -> Any:
    dtype, shape, raw = tensor
    if dtype.name == "DT_BFLOAT16":
        raise invalid("Failed to write JSON value for tensor type: bfloat16")
    if dtype.numpy is None:
        strings = np.empty(math.prod(shape), object)
        strings[:] = [_text(value, name.endswith(BYTES_SUFFIX)) for value in strings_of(raw)]
        return strings.reshape(shape).tolist()
    array = np.frombuffer(raw, "<f2" if dtype.name == "DT_HALF" else dtype.numpy).reshape(shape)
    return (shortest(array) if array.dtype.kind == "f" and array.dtype.itemsize < 8 else array).tolist()


def shortest(array: NDArray[Any]) -> NDArray[np.float64]:
    """Of floats of 16 or 32 bits the doubles that are written as shortly: 0.1, not 0.10000000149.

    A value is rounded to the fewest digits that still are the same float. Powers of ten up to 22 are exact
    doubles, so the quotient is the double nearest to the decimal.
    """
    shape, array = array.shape, array.ravel()
    with np.errstate(all="ignore"):
        values = array.astype(np.float64)
        exponents = np.floor(np.log10(np.abs(values)))
        decimal = np.isfinite(exponents)  # neither 0 nor none
        left = decimal & (np.abs(exponents) < 14)
        for digits in range(1 if array.dtype.itemsize == 2 else 6, 10):
            powers = digits - 1 - exponents
            scale = np.power(10.0, np.abs(powers))
            rounded = np.where(powers >= 0, np.rint(values * scale) / scale, np.rint(values / scale) * scale)
            fits = left & (rounded.astype(array.dtype) == array)
            values[fits] = rounded[fits]
            left &= ~fits
            decimal &= ~fits
    for place in np.nonzero(decimal)[0]:  # the very large and the very small
        values[place] = float(str(array[place]))
    return values.reshape(shape)


def _text(value: bytes, as_b64: bool) -> Any:
    """Strings that are no UTF-8 have no other form in JSON than b64."""
    if not as_b64:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode()}


def examples_of(document: Document) -> Any:
    """The Input of a classify or regress request. Raises `Refusal`."""
    if "examples" not in document:
        raise invalid("When method is classify, key 'examples' is expected and was not found")
    examples, given = document["examples"], Input()
    if not isinstance(examples, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid("'examples' value is an empty array")
    check_examples(len(examples))
    listed = given.example_list
    if "context" in document:
        listed = given.example_list_with_context
        _fill_example(listed.context, document["context"])
    for example in examples:
        _fill_example(listed.examples.add(), example)
    return given


def _fill_example(example: Any, written: Any) -> None:
    if not isinstance(written, dict):
        raise invalid(f"Example must be JSON object but got JSON {type(written).__name__}")
    for name, value in written.items():
        try:
            feature = example.features.feature[name]
        except (UnicodeEncodeError, ValueError):
            raise invalid("JSON Parse error: the name of a feature holds half of a surrogate pair") from None
        items = value if isinstance(value, list) else [value]
        kinds = set(map(type, items))
        try:
            if kinds <= {str, dict}:
                feature.bytes_list.value.extend([_bytes_of(item, _STRING) for item in items])
            elif kinds == {int}:
                feature.int64_list.value.extend(items)
            elif kinds == {float} or kinds == {int, float}:
                feature.float_list.value.extend(map(float, items))
            else:
                raise invalid(f"Unexpected element type in feature: {name}")
        except (ValueError, OverflowError):
            raise invalid(f"Feature: {name} has a number that is out of range") from None
