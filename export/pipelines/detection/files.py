"""A detector that somebody brings as an ONNX file: recognised, given our tensors, tried in batches,
published.

The graph is wrapped, not changed (export.graphs.detectors.rewriting); what it becomes is published as every
other ONNX file is, with photographs as samples, and its pipeline is written after it.
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from numpy.typing import NDArray

from export.catalogue import DETECTIONS
from export.common.errors import DetectorError, SpecError
from export.graphs.detectors.rewriting import IMAGE, SCORES
from export.graphs.detectors.suppression import suppressions, takes_centres, without_suppression
from export.pipelines.detection.batches import Batches, tried
from export.pipelines.detection.pictures import SHOWN, resized_photographs
from export.pipelines.detection.taken_out import check_taken_out
from export.pipelines.detection.wrapping import DetectorRequest, Prepared, saved, wrapped
from export.pipelines.onnx_files.door import FileReport, FileRequest, export_file
from export.pipelines.onnx_files.given import reading
from export.pipelines.onnx_files.tensors import check_types
from export.pipelines.serving.in_process import run, session_of
from export.repository.detection.pipelines import check_place
from export.sources.specs.detection import STRETCH, Detection

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = ["DetectorRequest", "publish_file"]


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
    check_place(detection_name, repository)
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
        family=family.name,
    )
    detection.label_text()  # refused before anything is published
    # What is published without a batch takes one photograph, with a first dim of 1.
    one_by_one = request.max_batch_size == 0 or not (prepared.runs_in_batches or request.batch)
    photographs = _photographs(prepared)
    images = [pixels[None] if one_by_one else pixels for pixels in photographs]
    with saved(prepared.model, request.name) as path:
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
    notes = [*prepared.notes, *_nothing_found(prepared, photographs)]
    told = f"it is of the family {family.name}: its pixels are {prepared.pixels}, {detection.fit}"
    return dataclasses.replace(report, notes=[told, *notes, *report.notes]), detection


def _prepared(model: onnx.ModelProto, request: DetectorRequest) -> Prepared:
    """Recognised and tried in batches; without its suppression of overlaps, where that has a fault."""
    given = onnx.ModelProto()
    given.CopyFrom(model)
    try:
        return _checked(wrapped(model, request), request)
    except DetectorError:
        bare = without_suppression(given) if suppressions(given) else None
        if bare is None:
            raise
        boxes = request.boxes or ("cxcywh" if takes_centres(given) else "")
        prepared = _checked(wrapped(bare, dataclasses.replace(request, boxes=boxes, outputs=())), request)
        check_taken_out(given, prepared, request)
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
    with saved(prepared.model, "tried") as path:
        return tried(session_of(path), prepared.model, images)


def _photographs(prepared: Prepared) -> list[NDArray[Any]]:
    return resized_photographs(prepared.size, prepared.found.family.fit == STRETCH)


def _nothing_found(prepared: Prepared, photographs: list[NDArray[Any]]) -> list[str]:
    """What to say of a detector that would answer no box for any of the photographs."""
    least = prepared.found.family.score_threshold
    with saved(prepared.model, "looked") as path:
        session = session_of(path)
        best = max(
            float(run(session, {IMAGE: pixels[None]})[SCORES].max(initial=0)) for pixels in photographs
        )
    if best >= least:
        return []
    return [
        f"WARNING: it finds nothing in any of the {len(photographs)} photographs that it was tried with: its "
        f"best score is {best:.2g}, and boxes are answered from {least:g}. If it should find everyday "
        "things, its pixels (--pixels, --bgr) or its family (--detector) may be others"
    ]
