"""`faces` and `compare-faces`: where faces are, drawn if one likes, and how alike two of them are."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from ..clients.blocking import VisionClient
from ..conversation.flows import CONCERN_ONE_IMAGE
from ..errors import InvalidInput, VisionError
from ..images.face_overlays import face_overlay
from ..images.inputs import ImageLike
from ..images.web import fetched, is_web_address
from ..results import Faces
from .batch import OK, SOME_FAILED, STDIN, Batch, image_of
from .display import RANDOM_WEIGHTS, comparison_text, face_lines, printable, warn
from .drawings import checked_path, write_image

__all__ = ["compare", "find"]


def find(client: VisionClient, options: argparse.Namespace) -> int:
    """`faces`; the exit code. Raises VisionError, of errors that every photograph would meet."""
    batch = Batch(options)
    images = list(batch.images()) if options.output else batch.images()
    output = checked_path(options.output) if options.output else None
    if output and len(batch.sources) != 1:
        raise InvalidInput(
            f"-o draws one photograph, and {len(batch.sources):,} are given; give one at a time."
        )
    if output and options.allow_urls:
        images = [fetched(one, options.timeout) if is_web_address(one) else one for one in images]
    thresholds = tuple(options.thresholds) if options.thresholds else None
    results = client.detect_faces_iter(
        images, options.min_face_size, thresholds, model=options.model, on_error="return"
    )
    drawn = _drawn(results, images[0], output) if output and isinstance(images, list) else results
    told = {"overlay": None if output is None else str(output)}
    return batch.report(([result] for result in drawn), partial(face_lines, drawn=output), more=told)


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


def _drawn(
    results: Iterator[Faces | VisionError], image: ImageLike, output: Path
) -> Iterator[Faces | VisionError]:
    """Passes the one result on, and draws it."""
    for result in results:
        if isinstance(result, Faces):
            write_image(face_overlay(image, result.faces), output)
        yield result
