"""A detector that somebody brings as an ONNX file: recognised, given our tensors, tried in batches,
published.

The graph is wrapped, not changed (export.graphs.detectors.rewriting); what it becomes is published as every
other ONNX file is, with photographs as samples, and its pipeline is written after it.
"""

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from export.catalogue import DETECTIONS
from export.common.errors import DetectorError, SpecError
from export.common.wording import said_by
from export.graphs.detectors.families import AUTO, PIXELS
from export.graphs.detectors.recognition import Recognised, class_names, image_size, recognised
from export.graphs.detectors.rewriting import IMAGE, INNER, fed_with_pixels, with_boxes_and_scores
from export.graphs.detectors.suppression import suppressions, without_suppression
from export.model_code.letterbox import Letterbox
from export.pipelines.detection.batches import Batches, tried
from export.pipelines.onnx_files import reading
from export.pipelines.onnx_files.door import FileReport, FileRequest, export_file
from export.pipelines.onnx_files.labels import read_labels
from export.pipelines.onnx_files.tensors import check_types, graph_inputs
from export.serving.in_process import Answer, run, session_of
from export.sources.photographs import photographs
from export.specs.detection import STRETCH, Detection

if TYPE_CHECKING:
    from export.serving.trial import TrialServer

__all__ = ["DetectorRequest", "Prepared", "publish_file"]

SHOWN = 8  # photographs that it is tried with


@dataclass(frozen=True)
class DetectorRequest:
    """file: as the user named it, for a model `name` and its pipeline detect_NAME. family, pixels: keys of
    `FAMILIES` and `PIXELS`; "auto" and "" find them. labels: a text file of names, one per line. dims: of the
    input, without the batch, where the file leaves them open. max_batch_size, batch: as of `FileRequest`."""

    file: Path
    name: str
    family: str = AUTO
    pixels: str = ""
    is_bgr: bool = False
    labels: Path | None = None
    dims: tuple[int, ...] | None = None
    max_batch_size: int | None = None
    batch: bool = False


@dataclass(frozen=True)
class Prepared:
    """The graph with our tensors, what it is, and what a user is to know."""

    model: onnx.ModelProto
    found: Recognised
    labels: list[str]
    size: tuple[int, int]  # height, width
    pixels: str
    notes: list[str]
    runs_in_batches: bool = False


def publish_file(
    request: DetectorRequest,
    repository: Path,
    trial: "TrialServer | None" = None,
    progress: Callable[[str], None] = lambda step: None,
) -> tuple[FileReport, Detection]:
    """Publish the detector; `publish_detection` then writes its pipeline. Raises an `ExportError`, and
    publishes nothing then."""
    detection_name = f"detect_{request.name}"
    if detection_name in {detection.name for detection in DETECTIONS.values()}:
        raise SpecError(f"its pipeline would be {detection_name}, which is ours: choose another --name")
    progress("reading")
    file = reading.read(request.file)
    check_types(file.model)
    whole = reading.embedded(file)
    if whole is None:
        raise DetectorError("a detector of more than 1.8 GB is not taken in")
    progress("recognising")
    prepared = _prepared(onnx.load_from_string(whole), request)
    family = prepared.found.family
    detection = Detection(
        name=detection_name,
        detector=request.name,
        width=prepared.size[1],
        height=prepared.size[0],
        fit=family.fit,
        labels=lambda: prepared.labels,
        score_threshold=family.score_threshold,
        iou_threshold=family.iou_threshold,
    )
    detection.label_text()  # refused before anything is published
    # What is published without a batch takes one photograph, with a first dim of 1.
    one_by_one = request.max_batch_size == 0 or not (prepared.runs_in_batches or request.batch)
    images = [pixels[None] if one_by_one else pixels for pixels in _photographs(prepared)]
    with _file(prepared.model, request.name) as path:
        report = export_file(
            FileRequest(
                file=path,
                name=request.name,
                max_batch_size=0 if one_by_one and request.max_batch_size is None else request.max_batch_size,
                batch=request.batch,
                items=tuple({IMAGE: pixels} for pixels in images),
                weights=file.label,
            ),
            repository,
            trial,
            progress,
        )
    detection = dataclasses.replace(detection, detector_batch=max(1, report.max_batch_size))
    told = f"it is of the family {family.name}: its pixels are {prepared.pixels}, {detection.fit}"
    return dataclasses.replace(report, notes=[told, *prepared.notes, *report.notes]), detection


def _prepared(model: onnx.ModelProto, request: DetectorRequest) -> Prepared:
    """Recognised and tried in batches; without its suppression of overlaps, where that has a fault."""
    given = onnx.ModelProto()
    given.CopyFrom(model)
    try:
        return _checked(_wrapped(model, request), request)
    except DetectorError:
        bare = without_suppression(given) if suppressions(given) else None
        if bare is None:
            raise
        prepared = _checked(_wrapped(bare, request), request)
        taken_out = (
            "its NonMaxSuppression was taken out: the pipeline drops what overlaps, photograph by photograph"
        )
        return dataclasses.replace(prepared, notes=[*prepared.notes, taken_out])


def _checked(prepared: Prepared, request: DetectorRequest) -> Prepared:
    """Raises `DetectorError` where photographs in a batch get other boxes than alone."""
    if request.max_batch_size == 0:
        return prepared
    batches = _tried(prepared, request.max_batch_size)
    if batches.fault:
        raise DetectorError(batches.fault)
    notes = prepared.notes
    if not batches.most and not request.batch:
        notes = [
            *notes,
            "it takes one photograph at a time; --batch opens a batch where the graph allows that",
        ]
    if batches.most and suppressions(prepared.model):
        notes = [
            *notes,
            f"its NonMaxSuppression stays: {batches.most} photographs in a batch get what each gets alone",
        ]
    return dataclasses.replace(prepared, notes=notes, runs_in_batches=batches.most > 0)


def _tried(prepared: Prepared, most: int | None) -> Batches:
    """In a batch as large as it is to be published for."""
    images = list(itertools.islice(itertools.cycle(_photographs(prepared)), max(SHOWN, most or 0)))
    with _file(prepared.model, "tried") as path:
        return tried(session_of(path), prepared.model, images)


def _wrapped(model: onnx.ModelProto, request: DetectorRequest) -> Prepared:
    inputs = graph_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(str(tensor) for tensor in inputs)
        raise DetectorError(
            f"it takes {names}, where a detector takes pixels alone: export it without what follows its "
            "heads, such "
            "as a post-processor that is told the photograph's size"
        )
    first = next(value for value in model.graph.input if value.name == inputs[0].name)
    others = [value for value in model.graph.input if value.name != inputs[0].name]
    del model.graph.input[:]
    model.graph.input.extend([first, *others])
    size = image_size(model, list(inputs[0].dims or ()), request.dims)
    labels, notes = _labels(model, request.labels)
    takes_bytes = inputs[0].dtype == "uint8"
    pixels = "bytes" if takes_bytes else request.pixels
    inner = fed_with_pixels(model, size, pixels or "unit", request.is_bgr)
    answers = _answers(inner, _resized(size))
    found = recognised(answers, size, len(labels) if labels else None, request.family)
    if not pixels:
        pixels = found.family.pixels
        if not pixels:
            raise DetectorError(
                f"it is of the family {found.family.name}, whose pixels each project scales otherwise: say "
                f"how with --pixels, one of {', '.join(PIXELS)}"
            )
        inner = fed_with_pixels(model, size, pixels, request.is_bgr)
    classes = len(labels) if found.classes is None and labels else found.classes
    if classes is None:
        raise DetectorError(
            f"its output {found.outputs[0]} does not tell how many classes there are: give their names with "
            "--labels "
            "FILE, one per line"
        )
    if not labels:
        labels = [f"class {number}" for number in range(classes)]
        notes.append("its classes have no names: give them with --labels FILE, one per line")
    if len(labels) != classes:
        raise DetectorError(
            f"it has {classes} classes, and there are {len(labels)} labels: give one name per line for each "
            "class"
        )
    places = answers[found.outputs[0]].shape[2 if found.is_turned else 1]
    made = with_boxes_and_scores(inner, found, size, classes, places)
    return Prepared(made, found, labels, size, pixels, notes)


def _labels(model: onnx.ModelProto, file: Path | None) -> tuple[list[str] | None, list[str]]:
    """Their names, of the user's file or of the model's own metadata."""
    if file is None:
        names = class_names(model)
        return names, (["the names of its classes are those in its metadata"] if names else [])
    return read_labels(file), []


def _answers(model: onnx.ModelProto, images: list[NDArray[Any]]) -> Answer:
    """Of each photograph alone, one after the other along the first dim."""
    with _file(model, "asked") as path:
        session = session_of(path)
        try:
            alone = [run(session, {IMAGE: pixels[None]}) for pixels in images]
        except Exception as error:  # of ONNX Runtime
            raise DetectorError(f"it does not run with one photograph: {said_by(error)}") from error
    shapes = {name: {answer[name].shape for answer in alone} for name in alone[0]}
    if varying := [name for name, found in shapes.items() if len(found) > 1]:
        raise DetectorError(
            f"output {varying[0].removeprefix(INNER)} has another shape for each photograph "
            f"({', '.join(str(list(shape)) for shape in sorted(shapes[varying[0]])[:3])}): the number of "
            "boxes is "
            "part of it, which no batch can share. Export it without non-maximum suppression"
        )
    return {
        name.removeprefix(INNER): np.concatenate([answer[name] for answer in alone])
        if alone[0][name].ndim
        else np.stack([answer[name] for answer in alone])
        for name in alone[0]
    }


def _photographs(prepared: Prepared) -> list[NDArray[Any]]:
    return _resized(prepared.size, prepared.found.family.fit == STRETCH)


def _resized(size: tuple[int, int], is_stretched: bool = False) -> list[NDArray[Any]]:
    """UINT8 [height, width, 3] each. Raises `PackageError` where they cannot be fetched."""
    letterbox = Letterbox(size[1], size[0], is_stretched)
    images = [Image.open(photograph.path).convert("RGB") for photograph in photographs()[:SHOWN]]
    return [letterbox.placed(image).pixels for image in images]


@contextlib.contextmanager
def _file(model: onnx.ModelProto, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="triton-vision-detector-") as folder:
        path = Path(folder) / f"{name}.onnx"
        onnx.save(model, path)
        yield path
