"""Photographs to the pixels of a model's own shape, where no model of the server makes them.

Decoding and resizing belong to the server: its `image_decoder` is asked wherever its pixels fit the model.
This is for the shapes that it does not make, by the same recipe: upright, transparency over white, bicubic
with antialiasing to 256/224 of the model's height or width, whichever binds, and the centre of that.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InvalidImage, InvalidInput
from .conversion import MAX_PIXELS
from .inputs import ImageLike, encoded_bytes

__all__ = ["exact", "fits", "fitted", "opened"]

OPEN = -1  # a dim of any size
KEPT = 224 / 256  # of the side that binds
CHANNELS = {1: "L", 3: "RGB"}
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")  # what the server takes, and what all else was converted to


def fits(given: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether pixels of the one shape are what a model of the other takes."""
    return len(given) == len(wanted) and all(w in (OPEN, g) for g, w in zip(given, wanted, strict=True))


def exact(image: Any, shape: Sequence[int]) -> NDArray[np.uint8] | None:
    """The pixels of an array or a PIL image that has the model's own shape, else None.

    A grey image fits a model of one channel.
    """
    if isinstance(image, Image.Image) and shape[-1] in CHANNELS:
        image = np.asarray(ImageOps.exif_transpose(image).convert(CHANNELS[shape[-1]]))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return None
    if image.ndim == 2 and tuple(shape[2:]) == (1,):
        image = image[:, :, np.newaxis]
    return image if fits(image.shape, shape) else None


def opened(image: ImageLike) -> Image.Image:
    """Decoded, upright, transparency over white; in mode "L" or "RGB".

    Raises InvalidImage, for more than 64 million pixels as well.
    """
    data = encoded_bytes(image)
    try:
        found: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if found.width * found.height > MAX_PIXELS:
            raise InvalidImage(
                f"too many pixels: {found.width} x {found.height}, the limit is {MAX_PIXELS:,}."
            )
        found = ImageOps.exif_transpose(found)
        if found.mode.startswith("I"):  # 16 bits of grey: convert() would clip them
            return Image.fromarray((np.asarray(found) >> 8).astype(np.uint8))
        if found.has_transparency_data:
            found = found.convert("RGBA")
            found = Image.alpha_composite(Image.new("RGBA", found.size, "white"), found)
        return found if found.mode == "L" else found.convert("RGB")
    except UnidentifiedImageError:
        raise InvalidImage("cannot be decoded: not a JPEG, PNG, WEBP or GIF image.") from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidImage(f"cannot be decoded: {error}") from None


def fitted(image: ImageLike, shape: Sequence[int], model: str) -> NDArray[np.uint8]:
    """UINT8 [height, width, 3 or 1] of `shape`; where height and width are open, the image's own.

    Raises InvalidImage, and InvalidInput for a shape that is not one of an image.
    """
    open_sides = [side == OPEN for side in shape[:2]]
    if len(shape) != 3 or shape[2] not in CHANNELS or open_sides not in ([True, True], [False, False]):
        raise InvalidInput(
            f"model '{model}' takes UINT8 pixels {list(shape)}, and a photograph becomes [height, width, 3], "
            "or [height, width, 1] of grey. Pass arrays of its own shape, or export it with one of these."
        )
    found = opened(image).convert(CHANNELS[shape[2]])
    if not any(open_sides):
        height, width = shape[:2]
        scale = min(found.height / height, found.width / width) * KEPT
        left, top = (found.width - width * scale) / 2, (found.height - height * scale) / 2
        box = (left, top, left + width * scale, top + height * scale)
        found = found.resize((width, height), Image.Resampling.BICUBIC, box)
    pixels = np.asarray(found, np.uint8)
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels
