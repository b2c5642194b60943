"""The file that a command draws into, checked before a server is asked, and what draws there."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..errors import InvalidInput, VisionError
from ..images.inputs import ImageLike
from ..images.web import fetched, is_web_address
from .batch import Batch

__all__ = ["checked_path", "drawn", "images_of", "write_image"]

R = TypeVar("R")

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
MOST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # pixels, as their encoders have it; of PNG four billion


def checked_path(name: str) -> Path:
    """Where a drawing may go by its name. Raises InvalidInput."""
    path = Path(name)
    if path.suffix.lower() not in FORMATS:
        raise InvalidInput(f"{path} is to be a picture; end its name with one of {', '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise InvalidInput(
            f"there is no folder {path.parent} to write {path.name} to; make it, or choose another."
        )
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; give the name of a file.")
    return path


def write_image(image: Image.Image, path: Path) -> None:
    """All of it or nothing: what was there stays until the new file is whole. Raises InvalidInput."""
    kind = FORMATS[path.suffix.lower()]
    most = MOST_SIDE.get(kind)
    if most is not None and max(image.size) > most:
        raise InvalidInput(
            f"{path} cannot be written: the drawing has {image.width:,} x {image.height:,} pixels, and "
            f"{kind} takes {most:,} on a side. Give -o a name that ends with .png."
        )
    try:
        descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                image.save(file, kind)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(scratch, 0o666 & ~_umask())
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    except (OSError, ValueError) as error:  # the latter are of encoders
        said = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{path} cannot be written: {said}. Choose another with -o.") from None


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
