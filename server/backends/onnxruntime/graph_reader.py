"""ONNX Runtime's C library from Python, to read graphs with: what a session says of its tensors, and no more.

The Python package needs numpy, and importing both takes three times as long as all else that planner.py does
until it is ready. A function's place in OrtApi never changes; native/onnxruntime.h says which are used where
requests run. What is made here is never released: it belongs to a process that reads one graph and ends.
"""

import functools
import importlib.util
from ctypes import CDLL, CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ort_settings import SessionSettings

API_VERSION = 19  # of 1.19, the first whose Python wheel has the C library
LOGGING_WARNING = 2
STATUSES = (
    *("OK", "FAIL", "INVALID_ARGUMENT", "NO_SUCHFILE", "NO_MODEL", "ENGINE_ERROR", "RUNTIME_EXCEPTION"),
    *("INVALID_PROTOBUF", "MODEL_LOADED", "NOT_IMPLEMENTED", "INVALID_GRAPH", "EP_FAIL"),
)
KINDS = ("unknown", "tensor", "sequence", "map", "opaque type", "sparse tensor", "optional")  # ONNXType
TENSOR = KINDS.index("tensor")
ELEMENTS = (  # ONNXTensorElementDataType, in the words of the Python package
    *("undefined", "float", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool"),
    *("float16", "double", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn"),
    *("float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4", "int4"),
)
# Places in OrtApi. All but the first two return a status.
GET_ERROR_CODE, GET_ERROR_MESSAGE = 1, 2
CREATE_ENV, CREATE_SESSION, CREATE_SESSION_OPTIONS = 3, 7, 10
DISABLE_MEM_PATTERN, DISABLE_CPU_MEM_ARENA = 17, 19
SET_GRAPH_LEVEL, SET_INTRA_OP_THREADS, SET_INTER_OP_THREADS = 23, 24, 25
INPUTS, OUTPUTS, OVERRIDABLE_INITIALIZERS = (30, 33, 36), (31, 34, 37), (32, 35, 38)  # count, type, name
CAST_TO_TENSOR_INFO, GET_ONNX_TYPE = 55, 56
GET_ELEMENT_TYPE, GET_DIMENSIONS_COUNT, GET_DIMENSIONS = 60, 61, 62
GET_DEFAULT_ALLOCATOR = 78


class OrtError(RuntimeError):
    """What ONNX Runtime has against a graph, in the words that its Python package uses."""


@dataclass(frozen=True)
class Node:
    """An input or output, as ort.NodeArg tells it: type as "tensor(float)", -1 where a size is open."""

    raw_name: bytes
    type: str
    shape: list[int]

    @property
    def name(self) -> str:
        """Raises `UnicodeDecodeError`."""
        return self.raw_name.decode()


def library_path() -> Path | None:
    """Of the C library that the Python package brings along; None if there is none."""
    spec = importlib.util.find_spec("onnxruntime")
    folders = spec.submodule_search_locations if spec else None
    found = [file for folder in folders or () for file in Path(folder, "capi").glob("libonnxruntime.so*")]
    return min(found, default=None)


@functools.cache
def load_library() -> Any:
    """OrtApi, a table of functions. Raises `OSError` if the library does not load."""
    base = CDLL(str(library_path())).OrtGetApiBase
    base.restype = POINTER(c_void_p)
    table = CFUNCTYPE(POINTER(c_void_p), c_uint32)(base()[0])(API_VERSION)
    if not table:
        raise OSError(f"{library_path()} has no API {API_VERSION}")
    return table


@functools.cache
def _function(place: int, result: Any, *arguments: Any) -> Any:
    return CFUNCTYPE(result, *arguments)(load_library()[place])


def _call(place: int, *arguments: Any) -> None:
    """The function at this place, which returns a status. Raises `OrtError`."""
    kinds = [type(a) if isinstance(a, (c_int, c_size_t)) else c_void_p for a in arguments]
    if status := _function(place, c_void_p, *kinds)(*arguments):
        code = _function(GET_ERROR_CODE, c_int, c_void_p)(status)
        message = _function(GET_ERROR_MESSAGE, c_char_p, c_void_p)(status)
        name = STATUSES[code] if code < len(STATUSES) else "UNKNOWN"
        told = message.decode(errors="backslashreplace")
        raise OrtError(f"[ONNXRuntimeError] : {code} : {name} : {told}")


class Graph:
    """A session of the graph at `path`, as far as ort.InferenceSession tells of it. Raises `OrtError`.

    Its threads are one, as it runs nothing.
    """

    def __init__(self, path: bytes, settings: SessionSettings):
        environment, options = c_void_p(), c_void_p()
        self._session, self._allocator = c_void_p(), c_void_p()
        _call(CREATE_ENV, c_int(LOGGING_WARNING), b"onnxruntime", byref(environment))
        _call(GET_DEFAULT_ALLOCATOR, byref(self._allocator))
        _call(CREATE_SESSION_OPTIONS, byref(options))
        _call(SET_GRAPH_LEVEL, options, c_int(settings.graph_level))
        for place in (SET_INTRA_OP_THREADS, SET_INTER_OP_THREADS):
            _call(place, options, c_int(1))
        if not settings.mem_arena:
            _call(DISABLE_CPU_MEM_ARENA, options)
        if not settings.mem_pattern:
            _call(DISABLE_MEM_PATTERN, options)
        _call(CREATE_SESSION, environment, path, options, byref(self._session))

    def get_inputs(self) -> list[Node]:
        """Those that have to be fed."""
        return self._nodes(*INPUTS)

    def get_overridable_initializers(self) -> list[Node]:
        """Those that the graph has a value for."""
        return self._nodes(*OVERRIDABLE_INITIALIZERS)

    def get_outputs(self) -> list[Node]:
        """In the graph's order, as the others."""
        return self._nodes(*OUTPUTS)

    def _nodes(self, count_place: int, type_place: int, name_place: int) -> list[Node]:
        count, nodes = c_size_t(), []
        _call(count_place, self._session, byref(count))
        for index in map(c_size_t, range(count.value)):
            name, info = c_char_p(), c_void_p()
            _call(name_place, self._session, index, self._allocator, byref(name))
            _call(type_place, self._session, index, byref(info))
            nodes.append(Node(name.value or b"", *_tensor(info)))
        return nodes


def _tensor(info: c_void_p) -> tuple[str, list[int]]:
    kind, tensor, element, rank = c_int(), c_void_p(), c_int(), c_size_t()
    _call(GET_ONNX_TYPE, info, byref(kind))
    if kind.value != TENSOR:
        return KINDS[kind.value] if kind.value < len(KINDS) else "thing of an unknown kind", []
    _call(CAST_TO_TENSOR_INFO, info, byref(tensor))
    _call(GET_ELEMENT_TYPE, tensor, byref(element))
    _call(GET_DIMENSIONS_COUNT, tensor, byref(rank))
    dims = (c_int64 * rank.value)()
    _call(GET_DIMENSIONS, tensor, dims, rank)
    known = element.value < len(ELEMENTS)
    return f"tensor({ELEMENTS[element.value] if known else element.value})", list(dims)
