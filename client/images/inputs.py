"""Turns what callers call an image into what a model takes: encoded bytes, or pixels."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import AsyncIterable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import InvalidImage
from .conversion import MAX_BYTES, converted, lossless

__all__ = [
    "IMAGE_SUFFIXES",
    "BinaryFile",
    "ImageLike",
    "Images",
    "describe",
    "encoded_bytes",
    "files_in",
    "is_one_image",
]


class BinaryFile(Protocol):
    """Anything open for reading bytes: `open(path, "rb")`, `io.BytesIO`, an upload of a web framework."""

    def read(self) -> bytes:
        """All bytes from where the file stands to its end."""


# One image: a path, the bytes of a file, a file, a PIL image, or UINT8 [height, width],
# [height, width, 3] (RGB) or [height, width, 4] (RGBA).
ImageLike: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | Image.Image | NDArray[np.uint8]
)

Images: TypeAlias = Iterable[ImageLike]  # several

# What image_decoder decodes, and what is converted for it.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif"}
    | {".avif", ".bmp", ".dib", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".pbm", ".pcx", ".pgm", ".pnm"}
    | {".ppm", ".psd", ".qoi", ".tga", ".tif", ".tiff"}
)


def is_one_image(images: Any) -> bool:
    """False for several: an iterable of images, or an array [n, height, width, channels]."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    one = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image))
    return one or hasattr(images, "read") or not isinstance(images, (Iterable, AsyncIterable))


def describe(image: Any, index: int | None) -> str:
    """A name for messages: the path, or the place in the list counted from 1."""
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    return "an image" if index is None else f"image {index + 1}"


def encoded_bytes(image: ImageLike) -> bytes:
    """JPEG, PNG, ... bytes for the server to decode: files as they are where it takes them, else PNG.

    Takes a path, bytes, a binary file, a PIL image, or a uint8 array [height, width],
    [height, width, 1], [height, width, 3] (RGB) or [height, width, 4] (RGBA). Raises InvalidImage.
    """
    if isinstance(image, Image.Image):
        return lossless(_upright(image))
    if isinstance(image, np.ndarray):
        return lossless(_from_array(image))
    if isinstance(image, (str, os.PathLike)):
        data = _read(os.fspath(image))
    elif isinstance(image, (bytes, bytearray, memoryview)):
        data = bytes(image)
    elif hasattr(image, "read"):
        data = image.read()
    else:
        raise InvalidImage(
            f"{type(image).__name__} is not an image type. Pass a path, bytes, a PIL image or a numpy array."
        )
    if not isinstance(data, bytes):
        raise InvalidImage("the file is opened as text. Open it with mode 'rb'.")
    if not data:
        raise InvalidImage("empty: it has no bytes.")
    if len(data) > MAX_BYTES:
        raise InvalidImage(f"longer than {MAX_BYTES:,} bytes, the limit for an image.")
    return converted(data, describe(image, None))


def files_in(path: Path, skipped: Counter[str] | None = None) -> Iterator[Path]:
    """The image files under a folder, by suffix, at any depth, in a stable order.

    skipped: counts the other files by their suffix, "" for those without, folders that cannot be read or
        are links, which may lead in a circle, and pipes and devices.
    """
    skipped = Counter() if skipped is None else skipped

    def unreadable(error: OSError) -> None:
        skipped["unreadable folders"] += 1

    for folder, subfolders, names in os.walk(path, onerror=unreadable):
        subfolders.sort()
        if links := sum(os.path.islink(os.path.join(folder, name)) for name in subfolders):
            skipped["linked folders"] += links
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if suffix not in IMAGE_SUFFIXES:
                skipped[suffix] += 1
            elif _is_special(path := Path(folder, name)):
                skipped["pipes and devices"] += 1
            else:
                yield path


def _is_special(path: Path) -> bool:
    """Whether opening it may wait for ever. What is not there is not special: opening it tells."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


_TO_UINT8 = "Scale values in 0..1 with (array * 255).round().astype('uint8')."


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8:
        raise InvalidImage(f"a {array.dtype} array; pixels are uint8. {_TO_UINT8}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise InvalidImage(
            f"an array of shape {list(array.shape)}; an image is [height, width], [height, width, 3] (RGB) "
            "or [height, width, 4] (RGBA)."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _upright(image: Image.Image) -> Image.Image:
    """Pixels carry no EXIF orientation, so it is applied; PIL reads the file only now, if it is lazy."""
    try:
        return ImageOps.exif_transpose(image)
    except OSError as error:
        raise InvalidImage(f"cannot be read: {error}") from None


def _read(path: str) -> bytes:
    if path.lower().startswith(("http://", "https://")):
        raise InvalidImage(
            "a web address, not a file. Allow it with --allow-urls (allow_urls=True), or download it first."
        )
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)  # a device or a pipe may never end
    except FileNotFoundError:
        raise InvalidImage("no such file.") from None
    except IsADirectoryError:
        raise InvalidImage("a folder, not an image. Pass the files in it.") from None
    except (OSError, ValueError) as error:
        raise InvalidImage(f"cannot be read: {error}") from None
