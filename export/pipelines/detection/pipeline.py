"""Publish the pipeline of a detector that is published already."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from export.repository.copies import write_copies
from export.repository.detection.pipelines import check_place, write_configs
from export.sources.specs.detection import Detection

__all__ = ["DetectionReport", "publish_detection"]

VERSION = 1  # of a Python model: there is one, which is edited


@dataclass(frozen=True)
class DetectionReport:
    """What was published. outcome: "published", or "up to date" where nothing was to be written."""

    name: str
    outcome: str
    version: int
    path: str
    detector: str
    classes: int
    width: int
    height: int
    fit: str
    score_threshold: float
    iou_threshold: float
    seconds: float
    notes: list[str] = field(default_factory=list)


def publish_detection(detection: Detection, repository: Path) -> DetectionReport:
    """Write its folder: code first, then labels and configurations, what was edited there apart. Raises an
    `ExportError`."""
    started = time.monotonic()
    labels = detection.label_text()
    check_place(detection.name, repository)
    copies = write_copies(detection.name, repository)
    configs, notes = write_configs(detection, repository)
    return DetectionReport(
        name=detection.name,
        outcome="published" if copies or configs else "up to date",
        version=VERSION,
        path=str(repository / detection.name),
        detector=detection.detector,
        classes=len(labels.splitlines()),
        width=detection.width,
        height=detection.height,
        fit=detection.fit,
        score_threshold=detection.score_threshold,
        iou_threshold=detection.iou_threshold,
        notes=notes,
        seconds=round(time.monotonic() - started, 2),
    )
