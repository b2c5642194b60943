"""What is made of an ONNX file, as the files that will be published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from export.common import release
from export.common.errors import OnnxFileError
from export.common.wording import counted
from export.pipelines.onnx_files.batch_dim import fixed_at_one, open_batch
from export.pipelines.onnx_files.given import reading
from export.pipelines.onnx_files.tensors import graph_inputs
from export.pipelines.serving.in_process import Answer
from export.repository.publish import DATA_FILE, GRAPH_FILE

__all__ = ["Candidate", "FileRequest", "prepared"]


@dataclass(frozen=True)
class FileRequest:
    """What is asked for. max_batch_size: None is 8 where the graph batches; 0 publishes without batches.
    batch: open a batch that is fixed at 1. dims: numbers for open dims, by input, without the batch.
    labels: a text file of names, of `labelled_output`, or "" for the output that has as many classes.
    samples: an .npz file of arrays by input, items first; None: random ones. items: the same as arrays,
    instead of a file. weights: what clients see; "": that of the file. version: its
    number; None: the next."""

    file: Path
    name: str
    labels: Path | None = None
    labelled_output: str = ""
    max_batch_size: int | None = None
    batch: bool = False
    dims: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    samples: Path | None = None
    items: tuple[Answer, ...] = ()
    weights: str = ""
    version: int | None = None


@dataclass
class Candidate:
    """What will be published, as far as it is known; `folder` holds it as files."""

    folder: Path
    model: onnx.ModelProto
    graph: bytes
    data: Path | None
    notes: list[str]
    rewritten: bool = False

    @property
    def path(self) -> Path:
        """Of the graph in `folder`; tensors of more than 2 GB lie in `data` beside it."""
        return self.folder / GRAPH_FILE

    def write(self) -> "Candidate":
        """Put `graph` into `folder`, which is there already; returns this candidate."""
        self.path.write_bytes(self.graph)
        return self

    def changed(self, model: onnx.ModelProto, note: str) -> None:
        """Take another model in its place."""
        self.model, self.rewritten = model, True
        self.notes.append(note)
        self.graph = model.SerializeToString(deterministic=True)
        self.write()


def prepared(file: reading.OnnxFile, scratch: Path, request: FileRequest) -> Candidate:
    """One file, or a graph and one file of tensors, that the release's ONNX Runtime reads.

    Raises `OnnxFileError` for an opset that it does not read, or a batch that cannot be opened.
    """
    opset = reading.opset_of(file.model)
    accepted = f"Triton {release.STRICTEST.name} (ONNX Runtime {release.ONNXRUNTIME}) reads up to"
    if opset > release.MAX_OPSET:
        raise OnnxFileError(
            f"it is of opset {opset}, and {accepted} {release.MAX_OPSET}: export it again with "
            f"opset_version={release.MAX_OPSET}, or try onnx.version_converter.convert_version"
        )
    notes, data = [], None
    graph = reading.embedded(file)
    if graph is None:
        data = scratch / DATA_FILE
        model = reading.with_data_file(file, data)
        graph = model.SerializeToString(deterministic=True)
        notes.append(f"its tensors lie in {DATA_FILE} beside it")
    else:
        model = onnx.load_from_string(graph)
        if file.external:
            notes.append("its tensors in other files are part of the file now")
    candidate = Candidate(scratch, model, graph, data, notes, bool(file.external)).write()
    try:
        onnx.checker.check_model(str(candidate.path))
    except Exception as error:  # ONNX Runtime loads many a file that the checker does not like
        notes.append(f"onnx.checker says: {' '.join(str(error).split())[:300]}")
    if model.ir_version > release.MAX_IR_VERSION:
        older = onnx.ModelProto()
        older.CopyFrom(model)
        older.ir_version = release.MAX_IR_VERSION
        candidate.changed(older, f"IR version {model.ir_version} became {older.ir_version}: {accepted} that")
    if request.batch and fixed_at_one(model) and not data:
        opened, changes = open_batch(candidate.model)
        more = f", and with it {counted(len(changes), 'node')} ({', '.join(changes[:3])})" if changes else ""
        candidate.changed(opened, f"its batch, fixed at 1, was opened{more}")
    elif request.batch:
        if data:
            raise OnnxFileError("--batch: a model of more than 2 GB is not rewritten; export it with a batch")
        if not all(tensor.open_batch for tensor in graph_inputs(model)):
            open_batch(model)  # says which input has no batch of 1
    return candidate
