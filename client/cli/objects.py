"""`detect`: what is in photographs, and where, drawn if one likes."""

from __future__ import annotations

import argparse
from functools import partial

from ..clients.blocking import VisionClient
from ..images.object_overlays import detection_overlay
from .batch import Batch
from .display import object_lines
from .drawings import drawn, images_of

__all__ = ["detect"]


def detect(client: VisionClient, options: argparse.Namespace) -> int:
    """The exit code. Raises VisionError, of errors that every photograph would meet."""
    batch = Batch(options)
    images, output = images_of(batch, options)
    results = client.detect_iter(
        images,
        score_threshold=options.score_threshold,
        iou_threshold=options.iou_threshold,
        classes=options.classes.split(",") if options.classes is not None else None,
        max_detections=options.max_detections,
        model=options.model,
        on_error="return",
    )
    found = drawn(results, images, output, lambda image, result: detection_overlay(image, result.objects))
    told = {"overlay": None if output is None else str(output)}
    return batch.report(([result] for result in found), partial(object_lines, drawn=output), more=told)
