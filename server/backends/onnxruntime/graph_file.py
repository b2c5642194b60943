"""Look at an ONNX file before ONNX Runtime does: which files it refers to, and what its tensors are called.

An ONNX file names the files of its large tensors itself ("external data"), and ONNX Runtime 1.19 reads
whatever is named: any file of the machine, or, under a name of its own, the process's memory. Its C library
ends a name at a zero byte, so that the two halves of the backend would know a tensor by two names. Field
numbers from onnx.proto.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

Data = bytes | mmap.mmap

# Of each message, the fields that lead to tensors, and the message that each holds.
MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "external": {},
}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's wire types
GRAPH, INPUT_OUTPUT, NAME = 7, (11, 12), 1  # fields: of a model, of its graph, of an input or output
ORT_FORMAT = ".ort"  # ONNX Runtime's own format, which holds all of its tensors


class GraphFileError(ValueError):
    """A file that is no ONNX model, or one that refers to what it must not read."""


def checked(path: Path) -> Path:
    """`path`, if all that it refers to may be read, and its inputs and outputs have names.

    Raises `GraphFileError`.
    """
    if path.suffix == ORT_FORMAT or path.stat().st_size == 0:
        return path
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _check_names(data, path)
        if data.find(b"location") < 0:  # the key of such a reference, which protobuf never splits
            return path
        for references in external_data(data, path):
            try:
                _check(references, path)
            except GraphFileError:
                raise
            except (OSError, RuntimeError) as error:  # a name too long, links in a circle
                raise GraphFileError(
                    f"{path} keeps a tensor in a file that cannot be opened: {error}"
                ) from None
    return path


def _check_names(data: Data, path: Path) -> None:
    for part, start, end in _fields(data, 0, len(data), path):
        if part != GRAPH:
            continue
        for field, first, last in _fields(data, start, end, path):
            if field not in INPUT_OUTPUT:
                continue
            for number, a, b in _fields(data, first, last, path):
                if number == NAME and b"\0" in data[a:b]:
                    name = data[a:b].decode(errors="backslashreplace")
                    raise GraphFileError(
                        f"tensor {name!r} of the graph has control characters in it; rename it"
                    )


def external_data(data: Data, path: Path) -> Iterator[dict[bytes, list[bytes]]]:
    """The keys and values of each tensor's external data; keys may come more than once."""
    unread = [("model", 0, len(data))]
    while unread:
        message, start, end = unread.pop()
        entries: dict[bytes, list[bytes]] = {}
        for number, first, last in _fields(data, start, end, path):
            inner = MESSAGES[message].get(number)
            if inner == "external":
                pair = {1: b"", 2: b""}
                pair.update((n, bytes(data[a:b])) for n, a, b in _fields(data, first, last, path))
                entries.setdefault(pair[1], []).append(pair[2])
            elif inner:
                unread.append((inner, first, last))
        if entries:
            yield entries


def _fields(data: Data, start: int, end: int, path: Path) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that hold bytes: number, where they begin and end."""
    at = start
    while at < end:
        key, at = _varint(data, at, end, path)
        number, wire_type = key >> 3, key & 7
        if wire_type == BYTES:
            size, at = _varint(data, at, end, path)
            if size > end - at:
                raise _no_onnx(path)
            yield number, at, at + size
            at += size
        elif wire_type == VARINT:
            _, at = _varint(data, at, end, path)
        elif wire_type in (FIXED64, FIXED32):
            at += 8 if wire_type == FIXED64 else 4
        else:
            raise _no_onnx(path)


def _varint(data: Data, at: int, end: int, path: Path) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _no_onnx(path)


def _no_onnx(path: Path) -> GraphFileError:
    return GraphFileError(f"{path} is no ONNX model, or is cut off; export or copy it again")


def _check(references: dict[bytes, list[bytes]], graph: Path) -> None:
    """Refuse one tensor's external data unless it is a part of a file beside the graph, links followed."""
    for raw in references.get(b"location", ()):
        location = raw.decode(errors="backslashreplace")
        shown = location.encode("unicode_escape").decode()[:200]
        if not location or not location.isprintable() or location.startswith(("/", "*/")):
            raise GraphFileError(f"{graph} keeps a tensor in '{shown}', which is not a file beside it")
        if ".." in Path(location).parts:
            raise GraphFileError(f"{graph} keeps a tensor in the file '{shown}', outside its own folder")
        file = graph.parent / location
        # A store of models links the graph and its data from one place, each to the same folder of another.
        homes = (graph.parent.resolve(), graph.resolve().parent)
        if not any(file.resolve().is_relative_to(home) for home in homes):
            raise GraphFileError(
                f"{graph} keeps a tensor in the file '{shown}', a link out of its own folder; "
                "put that file there"
            )
        if not file.is_file():
            raise GraphFileError(
                f"{graph} keeps a tensor in the file '{shown}', which is missing; copy it, too"
            )
        size, used = file.stat().st_size, 0
        for key in (b"offset", b"length"):
            for value in references.get(key, ()):
                if not (value.isdigit() and len(value) < 20):
                    raise GraphFileError(
                        f"{graph} gives no number as the {key.decode()} of a tensor in '{shown}'"
                    )
            used += max(map(int, references.get(key, ())), default=0)
        if used > size:
            raise GraphFileError(
                f"{graph} keeps a tensor in '{shown}' up to byte {used}, but that file has {size}; copy it "
                "again"
            )
