"""Commands that draw what was found over the one photograph that they are given."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..errors import InvalidInput, VisionError
from ..images.inputs import ImageLike
from ..images.web import fetched, is_web_address
from .batch import Batch
from .drawings import checked_path, write_image

__all__ = ["drawn", "images_of"]

R = TypeVar("R")


def images_of(batch: Batch, options: argparse.Namespace) -> tuple[Iterable[ImageLike], Path | None]:
    """The photographs, and where to draw; with -o they are one, whose bytes are here. Raises InvalidInput."""
    if not options.output:
        return batch.images(), None
    images = list(batch.images())
    output = checked_path(options.output)
    if len(batch.sources) != 1:
        raise InvalidInput(
            f"-o draws one photograph, and {len(batch.sources):,} are given; give one at a time."
        )
    if options.allow_urls:
        images = [fetched(one, options.timeout) if is_web_address(one) else one for one in images]
    return images, output


def drawn(
    results: Iterator[R | VisionError],
    images: Iterable[ImageLike],
    output: Path | None,
    draw: Callable[[ImageLike, R], Image.Image],
) -> Iterator[R | VisionError]:
    """Passes the results on, and draws the only one where there is an output."""
    if output is None:
        yield from results
        return
    (image,) = images
    for result in results:
        if not isinstance(result, VisionError):
            write_image(draw(image, result), output)
        yield result
