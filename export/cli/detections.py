"""The part of `python -m export` that is about detection pipelines, which follow their detectors."""

import argparse

from export.catalogue import DETECTIONS
from export.pipelines.detection.pipeline import DetectionReport, publish_detection
from export.specs.detection import Detection

__all__ = ["detection_of", "make", "print_report"]


def detection_of(name: str) -> Detection | None:
    """The pipeline that is published with that model of the catalogue, if there is one."""
    return DETECTIONS.get(name)


def make(detection: Detection, options: argparse.Namespace) -> DetectionReport:
    """Of a detector that was just published. Raises an `ExportError`."""
    return publish_detection(detection, options.model_repository)


def print_report(report: DetectionReport) -> None:
    """For a person, on standard output."""
    dropped = "none is dropped for another" if report.iou_threshold >= 1 else f"IoU {report.iou_threshold:g}"
    print(
        f"{report.name}: version {report.version} {report.outcome} in {report.seconds:.1f} s\n"
        f"  {report.path}\n"
        f"  boxes of {report.classes} class{'' if report.classes == 1 else 'es'} by {report.detector}, "
        "photographs "
        f"{'in a letterbox of' if report.fit == 'letterbox' else 'stretched to'} {report.width} x "
        f"{report.height}; scores from {report.score_threshold:g}, {dropped}",
        flush=True,
    )
