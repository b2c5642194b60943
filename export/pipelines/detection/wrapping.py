"""From a user's graph to one with our tensors: recognised by what it answers to some pictures."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.common.errors import DetectorError
from export.common.wording import said_by
from export.graphs.detectors.families import AUTO, PIXELS
from export.graphs.detectors.metadata import check_task, class_names, image_size
from export.graphs.detectors.recognition import Recognised, recognised
from export.graphs.detectors.rewriting import IMAGE, INNER, fed_with_pixels, with_boxes_and_scores
from export.pipelines.detection.pictures import pictures_to_know
from export.pipelines.onnx_files.given.labels import read_labels
from export.pipelines.onnx_files.tensors import graph_inputs
from export.pipelines.serving.in_process import Answer, run, session_of

__all__ = ["DetectorRequest", "Prepared", "answers_alone", "saved", "wrapped"]

SAID = {"unit": "0 to 1", "bytes": "0 to 255", "signed": "-1 to 1", "imagenet": "less ImageNet's mean"}


@dataclass(frozen=True)
class DetectorRequest:
    """file: as the user named it, for a model `name` and its pipeline detect_NAME. family, pixels, boxes:
    keys of `FAMILIES`, `PIXELS` and `FORMATS`; "auto" and "" find them. outputs: the names of those to look
    at, all if none. labels: a text file of names, one per line. dims: of the input, without the batch, where
    the file leaves them open. max_batch_size, batch: as of `FileRequest`."""

    file: Path
    name: str
    family: str = AUTO
    pixels: str = ""
    is_bgr: bool = False
    boxes: str = ""
    outputs: tuple[str, ...] = ()
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


def wrapped(model: onnx.ModelProto, request: DetectorRequest) -> Prepared:
    """Raises `DetectorError` where it is no detector, or where the user has to say what it is."""
    check_task(model)
    if request.outputs:
        _keep(model, request.outputs)
    size, inner, pixels = _fed(model, request)
    labels, notes = _labels(model, request.labels)
    answers = answers_alone(inner, pictures_to_know(size))
    known = len(labels) if labels else None
    found = recognised(answers, size, known, request.family, request.boxes, len(request.outputs) == 2)
    if not pixels:
        pixels = found.pixels
        if not pixels:
            whose = f": {found.others}" if found.others else " otherwise"
            raise DetectorError(
                f"it is of the family {found.family.name}, whose pixels each project scales{whose}. Say how "
                f"with --pixels, one of {', '.join(PIXELS)}, and --bgr if blue comes first"
            )
        inner = fed_with_pixels(model, size, pixels, request.is_bgr)
        others = f"; {found.others}" if found.others else ""
        notes.append(
            f"it gets pixels of {SAID[pixels]}, {'blue' if request.is_bgr else 'red'} first, as most of its "
            f"family do: if it takes others, say so with --pixels and --bgr{others}"
        )
    classes = len(labels) if found.classes is None and labels else found.classes
    if classes is None:
        raise DetectorError(
            f"its output {found.outputs[0]} does not tell how many classes there are: give their names with "
            "--labels FILE, one per line"
        )
    if not labels:
        labels = [f"class {number}" for number in range(classes)]
        notes.append("its classes have no names: give them with --labels FILE, one per line")
    if len(labels) != classes:
        raise DetectorError(
            f"it has {classes} classes, and there are {len(labels)} labels: give one name per line for each "
            "class"
        )
    if found.family.name == "end-to-end":
        _check_classes(found, answers, classes)
    scores = answers[found.outputs[0]]
    places = scores.shape[2 if found.is_turned else 1]
    made = with_boxes_and_scores(inner, found, size, classes, places)
    return Prepared(made, found, labels, size, pixels, notes)


def _fed(model: onnx.ModelProto, request: DetectorRequest) -> tuple[tuple[int, int], onnx.ModelProto, str]:
    """Its size, the graph with our input, and how that scales pixels: "" for what is tried first."""
    inputs = graph_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(str(tensor) for tensor in inputs)
        raise DetectorError(
            f"it takes {names}, where a detector takes pixels alone: export it without what follows its "
            "heads, such as a post-processor that is told the photograph's size"
        )
    first = next(value for value in model.graph.input if value.name == inputs[0].name)
    others = [value for value in model.graph.input if value.name != inputs[0].name]
    del model.graph.input[:]
    model.graph.input.extend([first, *others])
    size = image_size(model, list(inputs[0].dims or ()), request.dims)
    pixels = "bytes" if inputs[0].dtype == "uint8" else request.pixels
    return size, fed_with_pixels(model, size, pixels or "unit", request.is_bgr), pixels


def _keep(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    """Those outputs alone."""
    outputs = {output.name: output for output in model.graph.output}
    if missing := [name for name in names if name not in outputs]:
        raise DetectorError(f"--outputs: it has no output {missing[0]}; it has {', '.join(outputs)}")
    kept = [outputs[name] for name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _labels(model: onnx.ModelProto, file: Path | None) -> tuple[list[str] | None, list[str]]:
    """Their names, of the user's file or of the model's own metadata."""
    if file is None:
        names = class_names(model)
        return names, (["the names of its classes are those in its metadata"] if names else [])
    return read_labels(file), []


def _check_classes(found: Recognised, answers: Answer, classes: int) -> None:
    """Raises `DetectorError` where a table of boxes names more classes than there are labels."""
    table = answers[found.outputs[0]]
    largest = int((table[:, 5] if found.is_turned else table[..., 5]).max())
    if largest >= classes:
        raise DetectorError(
            f"its output {found.outputs[0]} has class {largest}, counted from 0, and there are {classes} "
            "labels: give one name per line for each class"
        )


def answers_alone(model: onnx.ModelProto, images: list[NDArray[Any]]) -> Answer:
    """Of each picture alone, one after the other along the first dim, by the file's own names.

    images: each [height, width, 3]. Raises `DetectorError` if it fails, or no batch can hold its answers.
    """
    with saved(model, "asked") as path:
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
            "boxes is part of it, which no batch can share. Export it without non-maximum suppression"
        )
    return {
        name.removeprefix(INNER): np.concatenate([answer[name] for answer in alone])
        if alone[0][name].ndim
        else np.stack([answer[name] for answer in alone])
        for name in alone[0]
    }


@contextlib.contextmanager
def saved(model: onnx.ModelProto, name: str) -> Iterator[Path]:
    """A file of it, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="triton-vision-detector-") as folder:
        path = Path(folder) / f"{name}.onnx"
        onnx.save(model, path)
        yield path
