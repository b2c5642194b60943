"""`faces` and `compare-faces`: where faces are, drawn if one likes, and how alike two of them are."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from functools import partial

from ..clients.blocking import VisionClient
from ..conversation.flows import CONCERN_ONE_IMAGE
from ..errors import InvalidInput
from ..images.face_overlays import face_overlay
from .batch import OK, SOME_FAILED, STDIN, Batch, image_of
from .display import RANDOM_WEIGHTS, comparison_text, face_lines, printable, warn
from .drawings import drawn, images_of

__all__ = ["compare", "find"]


def find(client: VisionClient, options: argparse.Namespace) -> int:
    """`faces`; the exit code. Raises VisionError, of errors that every photograph would meet."""
    batch = Batch(options)
    images, output = images_of(batch, options)
    thresholds = tuple(options.thresholds) if options.thresholds else None
    results = client.detect_faces_iter(
        images, options.min_face_size, thresholds, model=options.model, on_error="return"
    )
    found = drawn(results, images, output, lambda image, result: face_overlay(image, result.faces))
    told = {"overlay": None if output is None else str(output)}
    return batch.report(([result] for result in found), partial(face_lines, drawn=output), more=told)


def compare(client: VisionClient, options: argparse.Namespace) -> int:
    """`compare-faces`; the exit code. Raises VisionError, of errors that concern neither photograph."""
    if options.a == options.b == STDIN:
        raise InvalidInput("standard input is one photograph, and two are compared; give a file, too.")
    names = (options.a, options.b)
    try:
        found = client.compare_faces(
            *map(image_of, names),
            face=options.face,
            min_face_size=options.min_face_size,
            model=options.model,
            detector=options.detector,
        )
    except CONCERN_ONE_IMAGE as error:
        named = error.about(names[error.index or 0], error.index)
        if options.json:
            told = {"type": type(error).__name__, "message": error.message}
            print(json.dumps({"image": named.source, "error": told}))
        else:
            warn(f"error: {printable(named)}")
        return SOME_FAILED
    found = replace(found, sources=names)
    if options.json:
        fields = {**asdict(found), "is_same_person": found.is_same_person}
        print(json.dumps({**fields, "evidence": found.evidence}))
    else:
        print(comparison_text(found))
    if found.has_random_weights:
        warn(f"warning: {RANDOM_WEIGHTS}.")
    return OK
