"""Each photograph and its variants, asked of the server; a few photographs are in memory at a time."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from PIL import Image

from ...clients.blocking import VisionClient
from ...errors import InvalidImage, VisionError
from ...images.corruptions import corrupted, reduced
from ...images.fitting import opened
from ...results import Prediction
from .photographs import Photograph
from .tally import Variant

__all__ = ["answered"]


def answered(
    client: VisionClient,
    photographs: Iterable[Photograph],
    variants: Sequence[Variant],
    *,
    model: str,
    seed: int,
    short_side: int,
) -> Iterator[tuple[Photograph, list[Prediction] | VisionError]]:
    """The photographs in order, each with the answers to its variants, or with why there are not all of them.

    Raises VisionError, of errors that every photograph would meet.
    """
    underway: deque[tuple[Photograph, InvalidImage | None]] = deque()

    def images() -> Iterator[Image.Image]:
        for photograph in photographs:
            try:
                image = reduced(opened(photograph.path), short_side)
            except InvalidImage as error:
                underway.append((photograph, error))
                continue
            underway.append((photograph, None))
            of_photograph = [seed, zlib.crc32(os.fsencode(photograph.name))]
            for variant in variants:
                yield _made(image, variant, of_photograph)

    results = client.classify_iter(images(), 1, model=model, on_error="return")
    while True:
        found = list(islice(results, len(variants)))
        while underway and (error := underway[0][1]):
            yield underway.popleft()[0], error
        if not found:
            return
        answers = [one for one in found if isinstance(one, Prediction)]
        errors = [one for one in found if isinstance(one, VisionError)]
        yield underway.popleft()[0], errors[0] if errors else answers


def _made(image: Image.Image, variant: Variant, seed: Sequence[int]) -> Image.Image:
    """The seed is of the photograph, whichever others are asked, and in which order."""
    return corrupted(image, variant.corruption, variant.strength, seed) if variant.corruption else image
