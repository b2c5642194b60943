"""Read an ONNX file that anyone may have sent: its graph, and tensors that lie in files beside it.

Nothing outside the file's own folder is read, and nothing is believed that the files do not hold.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper

from export.common.errors import OnnxFileError
from export.common.packages import file_sha256
from export.pipelines.onnx_files.names import LABEL
from export.repository.publish import DATA_FILE
from export.sources.weights import SHA256_SHOWN
from server.environment.regular_files import open_regular, read_regular, regular

__all__ = ["OnnxFile", "embedded", "graphs_in", "opset_of", "parts_of", "read", "stored", "with_data_file"]

EMBEDDED_BYTES = 1_800_000_000  # protobuf ends at 2 GB; larger models keep their tensors in a file beside
ALIGNMENT = 4096  # of tensors in a data file, so that they can be mapped into memory
PROBE_TIMEOUT_S = 900
LFS_POINTER = b"version https://git-lfs"
Part = onnx.GraphProto | onnx.FunctionProto


@dataclass(frozen=True)
class OnnxFile:
    """model: as read, without the tensors of other files; external: those tensors; data_bytes: their size."""

    path: Path
    model: onnx.ModelProto
    external: tuple[TensorProto, ...]
    data_bytes: int
    sha256: str

    @property
    def label(self) -> str:
        """What clients see as the model's `weights`."""
        return f"{LABEL} {self.sha256[:SHA256_SHOWN]}"


def read(path: Path) -> OnnxFile:
    """Raises `OnnxFileError` for what is no ONNX file, is cut short, or refers to tensors that are not there,
    and for one that ends ONNX Runtime."""
    if not path.is_file():
        raise OnnxFileError(f"there is no file {path}")
    try:
        model = onnx.load(regular(path), format="protobuf", load_external_data=False)
    except Exception as error:  # of protobuf or of the system
        raise OnnxFileError(f"{path} is no ONNX file, or not all of one: {_why(path, error)}") from error
    if not model.HasField("graph") or not model.graph.output or not model.ir_version:
        raise OnnxFileError(f"{path} is no ONNX file, or not all of one: {_why(path, None)}")
    external = tuple(tensor for _, tensor in stored(model) if external_data_helper.uses_external_data(tensor))
    total = sum(_checked_size(tensor, path) for tensor in external)
    _probe(path)
    return OnnxFile(path, model, external, total, file_sha256(path))


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators, 0 where it has none."""
    return max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def embedded(file: OnnxFile) -> bytes | None:
    """The whole model as one file's bytes; None if that is larger than protobuf takes."""
    if not file.external:
        return read_regular(file.path)
    if file.data_bytes + file.path.stat().st_size > EMBEDDED_BYTES:
        return None
    whole = onnx.ModelProto()
    whole.CopyFrom(file.model)
    external_data_helper.load_external_data_for_model(whole, str(file.path.parent))
    return whole.SerializeToString(deterministic=True)


def with_data_file(file: OnnxFile, target: Path) -> onnx.ModelProto:
    """A model whose external tensors all lie in one file as it is published; that is written to `target`.

    Raises `OnnxFileError` where a file beside the model became shorter since it was read.
    """
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    with target.open("wb") as data:
        for _, tensor in stored(model):
            if not external_data_helper.uses_external_data(tensor):
                continue
            info = external_data_helper.ExternalDataInfo(tensor)
            data.seek(-(-data.tell() // ALIGNMENT) * ALIGNMENT)
            offset, left = data.tell(), _size_of(tensor)
            with open_regular(file.path.parent / info.location) as source:
                source.seek(info.offset or 0)
                while left:
                    block = source.read(min(left, 16 * 2**20))
                    if not block:
                        raise OnnxFileError(f"{file.path.parent / info.location} became shorter")
                    data.write(block)
                    left -= len(block)
            del tensor.external_data[:]
            place = {"location": DATA_FILE, "offset": offset, "length": data.tell() - offset}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
    return model


def _why(path: Path, error: Exception | None) -> str:
    with open_regular(path) as file:
        start = file.read(64)
    if not start:
        return "it is empty"
    if start.startswith(LFS_POINTER):
        return "it is a pointer of Git LFS; get the file itself with `git lfs pull`"
    if start.startswith(b"PK\x03\x04"):
        return "it is a zip archive, perhaps a checkpoint of PyTorch"
    if start.lstrip()[:1] == b"<":
        return "it is a page of HTML, perhaps of a download that failed"
    return str(error) if error and str(error) else "it holds no graph with outputs"


def stored(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """All tensors of a file, by the name under which nodes take them: of graphs, of the graphs inside their
    nodes, and of functions; dense, sparse, and those that a node holds."""
    for part in parts_of(model):
        if isinstance(part, onnx.GraphProto):
            yield from ((tensor.name, tensor) for tensor in part.initializer)
            for sparse in part.sparse_initializer:
                yield from ((sparse.values.name, tensor) for tensor in (sparse.values, sparse.indices))
        for node in part.node:
            name = node.output[0] if node.output else ""
            for attribute in node.attribute:
                held = [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
                single = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
                for sparse in (*single, *attribute.sparse_tensors):
                    held += [sparse.values, sparse.indices]
                yield from ((name, tensor) for tensor in held)


def parts_of(model: onnx.ModelProto) -> Iterator[Part]:
    """The graph, functions, and the graphs inside their nodes."""
    waiting: list[Part] = [model.graph, *model.functions]
    while waiting:
        part = waiting.pop()
        yield part
        for node in part.node:
            waiting += graphs_in(node)


def graphs_in(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The branches of an If, the body of a Loop."""
    return [
        graph
        for attribute in node.attribute
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
    ]


def _checked_size(tensor: TensorProto, path: Path) -> int:
    """Bytes of a tensor in another file, which must be in the same folder, itself, and long enough."""
    what = f"{path}: tensor {tensor.name!r}"
    try:
        info = external_data_helper.ExternalDataInfo(tensor)
        offset, length = int(info.offset or 0), int(info.length or 0)
    except (TypeError, ValueError) as error:
        raise OnnxFileError(f"{what} has external data that cannot be understood: {error}") from error
    location = info.location
    if not location or location != os.path.normpath(location) or os.path.isabs(location) or "\0" in location:
        raise OnnxFileError(f"{what} lies at {location!r}: give a plain path in the folder of the file")
    if location.split(os.sep)[0] == os.pardir:
        raise OnnxFileError(f"{what} lies at {location!r}, outside of the folder of the file; it is not read")
    data, folder = path.parent / location, path.parent
    for part in (data, *data.parents):
        if part == folder:
            break
        if part.is_symlink():
            raise OnnxFileError(f"{what} lies at {location!r}, which is a link: put the file itself there")
    if not data.is_file():
        raise OnnxFileError(f"{what} lies in {data}, which is not there; the model needs both files")
    size = _size_of(tensor)
    if length and length != size:
        raise OnnxFileError(f"{what} has dims {list(tensor.dims)}, {size} bytes, and {length} in {location}")
    there = data.stat().st_size
    if offset < 0 or offset + size > there:
        raise OnnxFileError(
            f"{what} is at bytes {offset} to {offset + size} of {data}, which has {there}: not all of it"
        )
    return size


def _size_of(tensor: TensorProto) -> int:
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError) as error:
        raise OnnxFileError(f"tensor {tensor.name!r} has the unknown type {tensor.data_type}") from error
    count = 1
    for dim in tensor.dims:
        if dim < 0:
            raise OnnxFileError(f"tensor {tensor.name!r} has dims {list(tensor.dims)}")
        count *= dim
    bits = 4 if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4) else 8 * kind.itemsize
    return -(-count * bits // 8)


def _probe(path: Path) -> None:
    """Load it in another process first: a crash of ONNX Runtime, or all memory taken, ends only that."""
    command = [sys.executable, "-m", "export.pipelines.onnx_files.given.probe", str(path.absolute())]
    root = Path(__file__).resolve().parents[4]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise OnnxFileError(
            f"{path}: ONNX Runtime was not done loading it after {PROBE_TIMEOUT_S} s"
        ) from None
    if done.returncode < 0:
        raise OnnxFileError(f"{path} ends ONNX Runtime by signal {-done.returncode} when it is loaded")
    try:
        problem = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        problem = f"the process that loads it ended with status {done.returncode}: {done.stderr[-500:]}"
    if problem:
        raise OnnxFileError(f"{path}: ONNX Runtime does not load it: {problem}")
