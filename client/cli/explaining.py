"""`explain`: one image, what made the model say what it says of it, and the drawing of that."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..clients.blocking import VisionClient
from ..common import defaults
from ..conversation.explainer import class_of
from ..conversation.flows import CONCERN_ONE_IMAGE
from ..errors import InvalidInput, VisionError
from ..images.overlays import overlay, text_overlay
from ..images.web import fetched, is_web_address
from ..results import Explanation, TextExplanation
from .batch import OK, SOME_FAILED, image_of
from .display import RANDOM_WEIGHTS, explanation_text, printable, warn
from .drawings import checked_path, write_image

__all__ = ["run"]

HEAT_STEP = 8  # pixels: a heatmap of masked copies is smoother than that


def run(client: VisionClient, options: argparse.Namespace) -> int:
    """The exit code: 1 where the image cannot be used. Raises `VisionError` for what concerns no image."""
    for name, value in (("--class", options.class_id), ("--method", options.method)):
        if options.text and value is not None:
            raise InvalidInput(f"{name} is of a photograph, and --text is for a line of text. Drop one.")
    output = None if options.output is None else checked_path(options.output)
    try:
        image = image_of(options.image)
        if options.allow_urls and is_web_address(image):
            image = fetched(image, options.timeout)
        found, drawing = (_text if options.text else _photograph)(client, image, options)
    except CONCERN_ONE_IMAGE as error:
        return _failed(error.about(options.image, None), options)
    if output:
        write_image(drawing, output)
    found = replace(found, source=options.image)
    if options.json:
        print(json.dumps({**_json_of(found), "overlay": None if output is None else str(output)}))
    else:
        print(explanation_text(found, output))
    if found.has_random_weights:
        warn(f"warning: {RANDOM_WEIGHTS}.")
    return OK


def _photograph(
    client: VisionClient, image: str | bytes, options: argparse.Namespace
) -> tuple[Explanation, Image.Image]:
    model = options.model or defaults.EXPLAINER
    asked = None if options.class_id is None else class_of(options.class_id)
    found = client.explain(image, asked, method=options.method or "cam", model=model)
    return found, overlay(image, found.heatmap, found.crop, options.opacity)


def _text(
    client: VisionClient, image: str | bytes, options: argparse.Namespace
) -> tuple[TextExplanation, Image.Image]:
    found = client.explain_text(image, model=options.model or defaults.LINE_READER)
    return found, text_overlay(image, found.characters, options.opacity)


def _failed(error: VisionError, options: argparse.Namespace) -> int:
    if options.json:
        told = {"type": type(error).__name__, "message": error.message}
        print(json.dumps({"image": options.image, "error": told}))
    else:
        warn(f"error: {printable(error)}")
    return SOME_FAILED


def _json_of(found: Explanation | TextExplanation) -> dict[str, object]:
    """All but a heatmap that is the class map once more; of another one, each eighth row and column."""
    fields = asdict(found)
    if isinstance(found, Explanation):
        del fields["heatmap"]
        fields["class_map"] = _rounded(found.class_map)
        if found.method != "cam":
            fields["heatmap"] = _rounded(
                found.heatmap[HEAT_STEP // 2 :: HEAT_STEP, HEAT_STEP // 2 :: HEAT_STEP]
            )
    return {"image": fields.pop("source"), **fields}


def _rounded(values: NDArray[np.float32]) -> list[list[float]]:
    return [[round(float(value), 6) for value in row] for row in values]
