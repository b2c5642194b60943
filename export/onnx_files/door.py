"""From an ONNX file to a published model: contract from the graph, checks in process, the real server."""

import contextlib
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime

from export import release
from export.batching import RELATIVE_TOLERANCES, check_batching, difference
from export.catalogue import CATALOGUE, SIBLINGS
from export.config_text import new_config_text, updated_config_text
from export.contract import BACKEND, LABELS_FILE, derive_contract, parse_config, read_config_text
from export.errors import OnnxFileError, SpecError, VerificationError
from export.onnx_files import reading
from export.onnx_files.batch_dim import BATCH, fixed_at_one, open_batch
from export.onnx_files.names import MODEL_NAME
from export.onnx_files.spec import FileSpec, FileTensor
from export.onnx_files.tensors import (
    GraphTensor,
    check_types,
    graph_inputs,
    graph_outputs,
    narrowed,
    sample_inputs,
)
from export.publish import CONFIG_FILE, DATA_FILE, GRAPH_FILE, newest_version, publish
from export.serving.comparison import Case
from export.serving.in_process import run, session_of
from export.serving.sampling import Samples, find_samples, read_samples, sizes_in_words

if TYPE_CHECKING:
    from export.serving.trial import TrialServer

__all__ = ["Report", "Request", "export_file"]

DEFAULT_MAX_BATCH_SIZE = 8
CHECKED_SIZES = 2  # of open dims, at which batches are compared; the others are run alone, and served
SLOW_S = 0.05  # an item: then one size and two samples are compared, in some 200 items
Item = dict[str, np.ndarray]


@dataclass(frozen=True)
class Request:
    """What is asked for. max_batch_size: None is 8 where the graph batches; 0 publishes without batches.
    batch: open a batch that is fixed at 1. dims: numbers for open dims, by input, without the batch."""

    file: Path
    name: str
    labels: Path | None = None
    labelled_output: str = ""
    max_batch_size: int | None = None
    batch: bool = False
    dims: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    samples: Path | None = None


@dataclass(frozen=True)
class Report:
    """What was published. outcome: "published", or "unchanged" where the newest version holds the same bytes;
    largest_difference: of an item in batches to the same item alone, in the units of its output."""

    name: str
    outcome: str
    version: int
    path: str
    weights: str
    file_bytes: int
    opset: int
    ir_version: int
    max_batch_size: int
    inputs: list[str]
    outputs: list[str]
    items_compared: int
    largest_difference: float | None
    notes: list[str]
    seconds: float
    served: str | None = None


@dataclass
class _Candidate:
    """What will be published, as far as it is known; `folder` holds it as files."""

    folder: Path
    model: onnx.ModelProto
    graph: bytes
    data: Path | None
    notes: list[str]
    rewritten: bool = False

    @property
    def path(self) -> Path:
        return self.folder / GRAPH_FILE

    def write(self) -> "_Candidate":
        self.path.write_bytes(self.graph)
        return self

    def changed(self, model: onnx.ModelProto, note: str) -> None:
        """Take another model in its place."""
        self.model, self.rewritten = model, True
        self.notes.append(note)
        self.graph = model.SerializeToString(deterministic=True)
        self.write()


def export_file(
    request: Request,
    repository: Path,
    trial: "TrialServer | None" = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """Publish an ONNX file as the next version of a model; raises an `ExportError` and publishes nothing if
    anything is wrong with it. `trial` serves it first; None leaves that out."""
    started = time.monotonic()
    folder = repository / request.name
    _check_place(folder, request.name)
    progress("reading")
    file = reading.read(request.file)
    check_types(file.model)
    with _scratch() as scratch:
        candidate = _prepared(file, scratch, request)
        progress("finding samples")
        original = session_of(request.file)
        spec, samples, alone = _understood(file, candidate, request, original, progress)
        progress("verifying")
        largest = _verified(spec, candidate, original, samples, progress)
        labels, spec = _labels(request, spec, alone)
        texts = _texts(spec, folder, file.label, labels, samples)
        served = None
        if trial:
            progress("serving")
            case = _case(spec, samples, labels)
            served = str(trial.check(folder, texts, candidate.graph, case, candidate.data))
        progress("publishing")
        before = newest_version(folder)
        version = publish(folder, texts, candidate.graph, candidate.data)
        path = folder / str(version) / GRAPH_FILE
        return Report(
            name=request.name,
            outcome="unchanged" if version == before else "published",
            version=version,
            path=str(path),
            weights=file.label,
            file_bytes=path.stat().st_size + (candidate.data.stat().st_size if candidate.data else 0),
            opset=reading.opset_of(candidate.model),
            ir_version=candidate.model.ir_version,
            max_batch_size=spec.max_batch_size,
            inputs=[str(tensor) for tensor in spec.inputs],
            outputs=[str(tensor) for tensor in spec.outputs],
            items_compared=len(samples.items),
            largest_difference=largest,
            notes=candidate.notes,
            seconds=round(time.monotonic() - started, 2),
            served=served,
        )


def _check_place(folder: Path, name: str) -> None:
    if not MODEL_NAME.fullmatch(name):
        raise SpecError(f"model name {name!r}: it becomes a folder; use letters, digits, _ . -")
    if folder.name in {**CATALOGUE, **SIBLINGS}:
        raise SpecError(f"{folder.name} is a model of the catalogue; give the file another with --name")
    path = folder / CONFIG_FILE
    if path.is_file():
        config = parse_config(read_config_text(path), path)
        if config.backend not in ("", BACKEND) or config.platform not in ("", "onnxruntime_onnx"):
            raise SpecError(f"{folder} holds a model of backend {config.backend or config.platform!r}")


@contextlib.contextmanager
def _scratch():
    folder = Path(tempfile.mkdtemp(prefix="triton-vision-onnx-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepared(file: reading.OnnxFile, scratch: Path, request: Request) -> _Candidate:
    """One file, or a graph and one file of tensors, that the release's ONNX Runtime reads."""
    opset = reading.opset_of(file.model)
    accepted = f"Triton {release.CONTAINER_RELEASE} (ONNX Runtime {release.ONNXRUNTIME}) reads up to"
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
    candidate = _Candidate(scratch, model, graph, data, notes, bool(file.external)).write()
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
        more = f", and with it {len(changes)} nodes ({', '.join(changes[:3])})" if changes else ""
        candidate.changed(opened, f"its batch, fixed at 1, was opened{more}")
    elif request.batch:
        if data:
            raise OnnxFileError("--batch: a model of more than 2 GB is not rewritten; export it with a batch")
        if not all(tensor.open_batch for tensor in graph_inputs(model)):
            open_batch(model)  # says which input has no batch of 1
    return candidate


def _understood(
    file: reading.OnnxFile,
    candidate: _Candidate,
    request: Request,
    original: onnxruntime.InferenceSession,
    progress: Callable[[str], None],
) -> tuple[FileSpec, Samples, list[Item]]:
    """The spec that the graph means, samples that it runs with, and their answers alone."""
    inputs = graph_inputs(candidate.model)
    if not inputs:
        raise OnnxFileError("it has no inputs: all of them have initializers, so that it is a constant")
    left_out = len(candidate.model.graph.input) - len(inputs)
    if left_out:
        candidate.notes.append(f"{left_out} inputs that have an initializer keep it, and are not served")
    session = session_of(candidate.path)
    wants_batches = request.max_batch_size != 0
    batches = wants_batches and all(tensor.open_batch for tensor in inputs)
    samples, alone = _sampled(candidate, session, request, inputs, batches, progress)
    if batches and (problem := _no_batch(session, samples.items[0])):
        if request.max_batch_size or request.batch:
            raise OnnxFileError(
                f"it does not batch: {problem}. --max-batch-size 0 publishes it without batching"
            )
        candidate.notes.append(f"it does not batch: {problem}; it is published without")
        batches = False
        samples, alone = _sampled(candidate, session, request, inputs, batches, progress)
    elif request.max_batch_size and not batches:
        raise OnnxFileError(
            f"--max-batch-size {request.max_batch_size}: the first dim of {_fixed(inputs)} is fixed"
            + ("; --batch opens it where that is possible" if fixed_at_one(candidate.model) else "")
        )
    elif wants_batches and not batches:
        hint = (
            "its batch is fixed at 1, so that it is published without batching; --batch opens it where the "
            "graph allows that"
            if fixed_at_one(candidate.model)
            else f"the first dim of {_fixed(inputs)} is fixed, so that it is published without batching"
        )
        candidate.notes.append(hint)
    if samples.refused and not request.samples:
        candidate.notes.append(sizes_in_words(samples, sample_inputs(candidate.model, inputs, int(batches))))
    outputs = _outputs(candidate, session, batches, alone)
    most = request.max_batch_size or DEFAULT_MAX_BATCH_SIZE
    inputs = narrowed(inputs, request.dims, int(batches))
    spec = FileSpec(
        name=request.name,
        inputs=tuple(FileTensor.of(tensor, int(batches)) for tensor in inputs),
        outputs=tuple(FileTensor.of(tensor, int(batches)) for tensor in outputs),
        max_batch_size=most if batches else 0,
    )
    return spec, samples, alone


def _fixed(inputs: list[GraphTensor]) -> str:
    return ", ".join(f"input {tensor}" for tensor in inputs if not tensor.open_batch)


def _sampled(
    candidate: _Candidate,
    session: onnxruntime.InferenceSession,
    request: Request,
    inputs: list[GraphTensor],
    batches: bool,
    progress: Callable[[str], None],
) -> tuple[Samples, list[Item]]:
    """Samples, and the answers of the candidate to each alone, without batch."""
    skip = int(batches)
    wanted = sample_inputs(candidate.model, narrowed(inputs, request.dims, skip), skip)

    def ask(item: Item) -> Item:
        return _alone(session, item, batches)

    if request.samples:
        samples = read_samples(request.samples, wanted)
    else:
        samples = find_samples(ask, wanted, progress=progress)
    try:
        return samples, [ask(item) for item in samples.items]
    except Exception as error:  # of ONNX Runtime
        raise SpecError(f"it does not run with {samples.sizes[0] or 'a sample'}: {error}") from error


def _alone(session: onnxruntime.InferenceSession, item: Item, batches: bool) -> Item:
    return run(session, {name: array[None] for name, array in item.items()} if batches else item)


def _no_batch(session: onnxruntime.InferenceSession, item: Item) -> str:
    """Why two of an item are no batch; "" if they are."""
    try:
        answer = run(session, {name: np.stack([array, array]) for name, array in item.items()})
    except Exception as error:  # of ONNX Runtime
        return f"a batch of 2 fails: {' '.join(str(error).split())[:400]}"
    wrong = [name for name, array in answer.items() if array.ndim == 0 or len(array) != 2]
    return f"the first dim of output {wrong[0]} is not that of the inputs" if wrong else ""


def _outputs(
    candidate: _Candidate, session: onnxruntime.InferenceSession, batches: bool, alone: list[Item]
) -> list[GraphTensor]:
    """Outputs as they are: what the file declares otherwise, or not at all, is written into it."""
    declared, wrong = graph_outputs(candidate.model), []
    found = []
    for tensor in declared:
        shapes = [answer[tensor.name].shape for answer in alone]
        ranks = {len(shape) for shape in shapes}
        if len(ranks) > 1:
            raise OnnxFileError(
                f"output {tensor.name} has {sorted(ranks)} dims, with each sample another number"
            )
        rank = ranks.pop()
        dims = tensor.dims
        if dims is None or len(dims) != rank:
            dims = tuple(f"{tensor.name}_{axis}" for axis in range(rank))
        dims = tuple(
            f"{tensor.name}_{axis}"
            if isinstance(dim, int)
            and (any(shape[axis] != dim for shape in shapes) or (batches and axis == 0))
            else dim
            for axis, dim in enumerate(dims)
        )
        if batches:
            dims = (BATCH if dims[0] == f"{tensor.name}_0" else dims[0], *dims[1:])
        if dims != tensor.dims:
            wrong.append(tensor.name)
        found.append(GraphTensor(tensor.name, tensor.dtype, dims))
    if wrong:
        mended = onnx.ModelProto()
        mended.CopyFrom(candidate.model)
        for value, tensor in zip(mended.graph.output, found, strict=True):
            if value.name in wrong:
                kind = value.type.tensor_type.elem_type
                shape = list(tensor.dims)
                value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shape))
        candidate.changed(mended, f"the dims of output {', '.join(wrong)} are declared as they are now")
    return found


def _verified(
    spec: FileSpec,
    candidate: _Candidate,
    original: onnxruntime.InferenceSession,
    samples: Samples,
    progress: Callable[[str], None],
) -> float | None:
    """Items in batches against the same items alone, in the original file; the largest difference."""
    session = session_of(candidate.path)
    batches = spec.max_batch_size > 0
    failures = []
    largest = 0.0 if batches else None
    for item in samples.items if candidate.rewritten else ():
        ours, theirs = _alone(session, item, batches), _alone(original, item, batches)
        for name, array in ours.items():
            gap, scale = difference(array, theirs[name]), RELATIVE_TOLERANCES.get(str(array.dtype), 0.0)
            if not gap <= scale * _largest(theirs[name]):
                failures.append(f"output {name} differs from the file as it was given by {gap:.3g}")
    if not batches:
        failures += [str(one) for one in check_batching(_run_of(session, False), samples.items[:1], 1)]
    else:
        seen = _Seen(session, original if candidate.rewritten else session)
        findings = check_batching(seen.run, _some_of(samples), spec.max_batch_size, progress=progress)
        failures += [str(finding) for finding in findings]
        largest = seen.largest
    if failures:
        if batches:
            failures.append("--max-batch-size 0 publishes it without batching, each request by itself")
        raise VerificationError(list(dict.fromkeys(failures)))
    return largest


class _Seen:
    """Runs batches; one item alone by the file as it was given."""

    def __init__(self, session: onnxruntime.InferenceSession, original: onnxruntime.InferenceSession) -> None:
        self._session, self._original, self.largest = session, original, 0.0
        self._alone: dict[tuple, Item] = {}

    def run(self, arrays: dict[str, np.ndarray]) -> Item:
        count = len(next(iter(arrays.values())))
        answer = run(self._original if count == 1 else self._session, arrays)
        for at in range(count):
            key = tuple(
                repr(a[at].tolist()) if a.dtype == object else a[at].tobytes() for a in arrays.values()
            )
            if count == 1:
                self._alone[key] = answer
            elif key in self._alone:
                gaps = [
                    difference(answer[name][at], array[0])
                    for name, array in self._alone[key].items()
                    if array.ndim and answer[name].ndim and len(answer[name]) == count
                ]
                self.largest = max([self.largest, *(gap for gap in gaps if np.isfinite(gap))])
        return answer


def _run_of(session: onnxruntime.InferenceSession, batches: bool) -> Callable:
    """For `check_batching`: of a model that does not batch, the one item, given a batch dimension."""
    return lambda arrays: {
        name: array[None]
        for name, array in run(session, {name: array[0] for name, array in arrays.items()}).items()
    }


def _largest(array: np.ndarray) -> float:
    if array.dtype.kind != "f":
        return 0.0
    return float(np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0))


def _some_of(samples: Samples) -> list[Item]:
    """Items of the smallest sizes: larger ones tell the same, and take longer. Fewer where one is slow."""
    slow = samples.seconds > SLOW_S
    sizes = sorted({sum(array.size for array in item.values()) for item in samples.items})
    kept = [
        [item for item in samples.items if sum(array.size for array in item.values()) == size]
        for size in sizes[: 1 if slow else CHECKED_SIZES]
    ]
    return [item for group in kept for item in group[: 2 if slow else None]]


def _labels(request: Request, spec: FileSpec, alone: list[Item]) -> tuple[list[str] | None, FileSpec]:
    """The names of the classes, and the spec with its labelled output."""
    if request.labels is None:
        return None, spec
    try:
        labels = request.labels.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the labels cannot be read: {error}") from error
    if not labels or not all(label.strip() for label in labels):
        raise SpecError(f"{request.labels} has an empty line, or none: give one name per class and line")
    counts = {name: {answer[name].shape[-1] for answer in alone if answer[name].ndim} for name in alone[0]}
    fitting = [name for name, found in counts.items() if found == {len(labels)}]
    if request.labelled_output:
        fitting = [name for name in fitting if name == request.labelled_output]
    if len(fitting) != 1:
        found = ", ".join(f"{name}: {sorted(sizes)}" for name, sizes in counts.items())
        raise SpecError(
            f"{request.labels} has {len(labels)} labels, and "
            + (
                f"outputs {', '.join(fitting)} have as many classes; choose with --labels OUTPUT=FILE"
                if fitting
                else f"no output that they are for has as many classes (last dims: {found})"
            )
        )
    outputs = tuple(
        dataclasses.replace(tensor, labels=lambda: labels) if tensor.name == fitting[0] else tensor
        for tensor in spec.outputs
    )
    return labels, dataclasses.replace(spec, outputs=outputs)


def _texts(
    spec: FileSpec, folder: Path, label: str, labels: list[str] | None, samples: Samples
) -> dict[str, str]:
    contract, path = derive_contract(spec, label), folder / CONFIG_FILE
    if path.is_file():
        config = updated_config_text(read_config_text(path), contract, path)
    else:
        sizes = {name: array.shape for name, array in samples.items[0].items()}
        config = new_config_text(spec, contract, sizes)
    return {**({LABELS_FILE: "\n".join(labels) + "\n"} if labels else {}), CONFIG_FILE: config}


def _case(spec: FileSpec, samples: Samples, labels: list[str] | None) -> Case:
    names = [tensor.name for tensor in spec.inputs]
    return Case(
        inputs=tuple(names),
        outputs=tuple(tensor.name for tensor in spec.outputs),
        samples=[tuple(item[name] for name in names) for item in samples.items],
        labels={tensor.name: labels or [] for tensor in spec.outputs if tensor.labels},
    )
