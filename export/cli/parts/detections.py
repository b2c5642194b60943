"""The part of `python -m export` that is about detectors: ours and users', and the pipelines that follow
them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from export.catalogue import DETECTIONS
from export.cli.parts import onnx_files
from export.graphs.detectors.box_formats import FORMATS
from export.graphs.detectors.families import AUTO, FAMILIES, PIXELS
from export.pipelines.detection.pipeline import DetectionReport, publish_detection
from export.sources.specs.detection import Detection

if TYPE_CHECKING:
    from export.pipelines.onnx_files.door import FileReport
    from export.pipelines.serving.trial import TrialServer

__all__ = [
    "add_options",
    "check_options",
    "detector_of",
    "make",
    "make_detector",
    "of_catalogue",
    "print_report",
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of detectors that users bring; they go with one FILE.onnx."""
    group = parser.add_argument_group(
        "detectors (docs/how-to/detect.md)",
        "with FILE.onnx as MODEL; publishes NAME, and detect_NAME, which takes photographs",
    )
    group.add_argument(
        "--detector",
        metavar="FAMILY",
        choices=(AUTO, *FAMILIES),
        help=f"it finds boxes: {AUTO} recognises {', '.join(FAMILIES)}",
    )
    group.add_argument(
        "--pixels",
        choices=tuple(PIXELS),
        metavar="SCALE",
        help="how it takes pixels: unit (0 to 1), bytes (0 to 255), signed (-1 to 1) or imagenet (less the "
        "mean, by the deviation, of its photographs); default: its family's",
    )
    group.add_argument(
        "--boxes",
        choices=tuple(FORMATS),
        metavar="FORMAT",
        help=f"what the four numbers of a box are: {', '.join(FORMATS)}; default: its family's, or what its "
        "boxes tell",
    )
    group.add_argument(
        "--outputs",
        metavar="NAME,NAME",
        help="the outputs that hold boxes and scores, in that order, where it has others (default: all)",
    )
    group.add_argument("--bgr", action="store_true", help="it takes blue, green, red (default: red first)")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with wrong usage where options contradict each other."""
    if not options.detector:
        if options.pixels or options.bgr or options.boxes or options.outputs:
            parser.error("--pixels, --boxes, --outputs and --bgr go with --detector")
        return
    if len(options.models) != 1 or not onnx_files.is_file(options.models[0]):
        parser.error("--detector goes with exactly one FILE.onnx")
    if options.samples:
        parser.error("--samples does not go with --detector, which is tried with photographs")
    if len(options.dims) > 1:
        parser.error("--dims: a detector has one input")
    if options.labels and not Path(options.labels).is_file():
        parser.error(f"--labels {options.labels}: there is no such file, with one name per line")


def of_catalogue(name: str) -> Detection | None:
    """The pipeline that is published with that model of the catalogue, if there is one."""
    return DETECTIONS.get(name)


def detector_of(name: str) -> str:
    """The model of the catalogue that a pipeline is published with, for the pipeline's name; else the
    name."""
    return next((one.detector for one in DETECTIONS.values() if one.name == name), name)


def make(detection: Detection, options: argparse.Namespace) -> DetectionReport:
    """Of a detector that was just published. Raises an `ExportError`."""
    return publish_detection(detection, options.model_repository)


def make_detector(
    target: str, options: argparse.Namespace, progress: Callable[[str], None], trial: "TrialServer | None"
) -> "tuple[FileReport, Detection]":
    """Publish a user's file, and say what its pipeline is to be. Raises an `ExportError`."""
    from export.pipelines.detection.files import DetectorRequest, publish_file

    given = onnx_files.request_of(target, options)
    request = DetectorRequest(
        file=given.file,
        name=given.name,
        family=options.detector,
        pixels=options.pixels or "",
        is_bgr=options.bgr,
        boxes=options.boxes or "",
        outputs=tuple(filter(None, (options.outputs or "").split(","))),
        labels=given.labels,
        dims=next(iter(given.dims.values()), None),
        max_batch_size=given.max_batch_size,
        batch=given.batch,
    )
    return publish_file(request, options.model_repository, trial, progress)


def print_report(report: DetectionReport) -> None:
    """For a person, on standard output."""
    dropped = "none is dropped for another" if report.iou_threshold >= 1 else f"IoU {report.iou_threshold:g}"
    notes = "".join(f"\n  note: {note}" for note in report.notes)
    print(
        f"{report.name}: version {report.version} {report.outcome} in {report.seconds:.1f} s\n"
        f"  {report.path}\n"
        f"  boxes of {report.classes} class{'' if report.classes == 1 else 'es'} by {report.detector}, "
        "photographs "
        f"{'in a letterbox of' if report.fit == 'letterbox' else 'stretched to'} {report.width} x "
        f"{report.height}; scores from {report.score_threshold:g}, {dropped}{notes}",
        flush=True,
    )
