"""From an ONNX file to a published model: contract from the graph, checks in process, the real server."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from export.catalogue import CATALOGUE, SIBLINGS
from export.common.errors import OnnxFileError, SpecError
from export.common.wording import counted
from export.lint.linter import lint
from export.lint.rules import ERROR
from export.pipelines.onnx_files.candidate import Candidate, FileRequest, prepared
from export.pipelines.onnx_files.checks import verified
from export.pipelines.onnx_files.given import reading
from export.pipelines.onnx_files.given.labels import read_labels
from export.pipelines.onnx_files.names import MODEL_NAME
from export.pipelines.onnx_files.spec import FileSpec
from export.pipelines.onnx_files.tensors import check_types
from export.pipelines.onnx_files.understanding import understood
from export.pipelines.onnx_files.weights import check_weights
from export.pipelines.serving.comparison import Case
from export.pipelines.serving.in_process import Answer, session_of
from export.pipelines.serving.sampling import Samples
from export.repository.configs.contract import (
    BACKEND,
    LABELS_FILE,
    derive_contract,
    parse_config,
    read_config_text,
)
from export.repository.configs.text import new_config_text, new_policy_text, updated_config_text
from export.repository.publish import CONFIG_FILE, GRAPH_FILE, newest_version, publish

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = ["FileReport", "FileRequest", "export_file"]

VERSIONS = "TV110"  # of a policy that names versions, of which only this one is looked at
OPERATORS = ("TV210", "TV215", "TV216")  # rules of what the release's ONNX Runtime has


@dataclass(frozen=True)
class FileReport:
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


def export_file(
    request: FileRequest,
    repository: Path,
    trial: "TrialServer | None" = None,
    progress: Callable[[str], None] = lambda step: None,
) -> FileReport:
    """Publish an ONNX file as the next version of a model; raises an `ExportError` and publishes nothing if
    anything is wrong with it. `trial` serves it first; None leaves that out."""
    started = time.monotonic()
    folder = repository / request.name
    _check_place(folder, request.name)
    progress("reading")
    file = reading.read(request.file)
    check_types(file.model)
    with _scratch() as scratch:
        candidate = prepared(file, scratch, request)
        progress("finding samples")
        original = session_of(request.file)
        spec, samples, alone = understood(candidate, request, progress)
        check_weights(candidate, alone)
        progress("verifying")
        largest = verified(spec, candidate, original, samples, progress)
        labels, spec = _labels(request, spec, alone)
        weights = request.weights or file.label
        texts = _texts(spec, folder, weights, labels, samples)
        _lint(candidate, request.name, texts)
        served = None
        if trial:
            progress("serving")
            case = _case(spec, samples, labels)
            served = str(trial.check(folder, texts, candidate.graph, case, candidate.data))
        progress("publishing")
        before = newest_version(folder)
        version = publish(folder, texts, candidate.graph, candidate.data, request.version)
        path = folder / str(version) / GRAPH_FILE
        return FileReport(
            name=request.name,
            outcome="unchanged" if version == before else "published",
            version=version,
            path=str(path),
            weights=weights,
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
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="triton-vision-onnx-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _labels(request: FileRequest, spec: FileSpec, alone: list[Answer]) -> tuple[list[str] | None, FileSpec]:
    """The names of the classes, and the spec with its labelled output."""
    if request.labels is None:
        return None, spec
    labels = read_labels(request.labels)
    counts = {name: {answer[name].shape[-1] for answer in alone if answer[name].ndim} for name in alone[0]}
    fitting = [name for name, found in counts.items() if found == {len(labels)}]
    if request.labelled_output:
        fitting = [name for name in fitting if name == request.labelled_output]
    if len(fitting) != 1:
        found = ", ".join(f"{name}: {sorted(sizes)}" for name, sizes in counts.items())
        raise SpecError(
            f"{request.labels} has {counted(len(labels), 'label')}, and "
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
    if not path.is_file() or _is_unedited(read_config_text(path), spec, path):
        sizes = {name: array.shape for name, array in samples.items[0].items()}
        config = new_config_text(spec, contract, sizes)
    return {**({LABELS_FILE: "\n".join(labels) + "\n"} if labels else {}), CONFIG_FILE: config}


def _is_unedited(text: str, spec: FileSpec, path: Path) -> bool:
    """Whether its policy is as an export wrote it, for other batches or dims perhaps."""
    before = parse_config(text, path)
    dims = {tensor.name: tuple(tensor.dims) for tensor in before.input}
    if set(dims) != {tensor.name for tensor in spec.inputs}:
        return False
    inputs = tuple(dataclasses.replace(tensor, dims=dims[tensor.name]) for tensor in spec.inputs)
    old = dataclasses.replace(spec, inputs=inputs, max_batch_size=before.max_batch_size)
    warm = {name: list(one.dims) for warmup in before.model_warmup for name, one in warmup.inputs.items()}
    return text.endswith(new_policy_text(old, warm))


def _case(spec: FileSpec, samples: Samples, labels: list[str] | None) -> Case:
    names = [tensor.name for tensor in spec.inputs]
    return Case(
        inputs=tuple(names),
        outputs=tuple(tensor.name for tensor in spec.outputs),
        samples=[tuple(item[name] for name in names) for item in samples.items],
        labels={tensor.name: labels or [] for tensor in spec.outputs if tensor.labels},
    )


def _lint(candidate: Candidate, name: str, texts: dict[str, str]) -> None:
    """Refuse what the linter knows the release to refuse; note what it knows of operators."""
    repository = candidate.folder / "repository"
    version = repository / name / "1"
    version.mkdir(parents=True)
    for path in (candidate.path, *([candidate.data] if candidate.data else [])):
        os.link(path, version / path.name)
    for file, text in texts.items():
        (version.parent / file).write_text(text)
    findings = lint(repository, ignore={VERSIONS})
    errors = [f"{one.code}: {one.message}; {one.fix}" for one in findings if one.severity == ERROR]
    if errors:
        raise OnnxFileError(
            "the linter finds what the release would not serve (docs/reference/lint.md):\n"
            + "\n".join(f"  - {text}" for text in dict.fromkeys(errors))
        )
    found = [one for one in findings if one.code in OPERATORS]
    candidate.notes += dict.fromkeys(f"{one.code}: {one.message}" for one in found)
