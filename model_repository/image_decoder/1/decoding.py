"""Encoded image bytes to the pixels that the recognition models take.

The one definition of those pixels: `image_decoder` serves it, and `export` loads this file to verify
models on the same pixels. `read_text` opens its images with it, through a link in its own folder, so that
all models take and refuse the same files. It needs Pillow and numpy only.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

__all__ = ["CROP", "MAX_BYTES", "MAX_PIXELS", "RESIZE", "ImageError", "decode", "decode_whole"]

MAX_BYTES = 32 * 2**20  # longer inputs are refused unread
MAX_PIXELS = 64_000_000  # width x height in the header; 64 Mpx decode to 192 MB of RGB
RESIZE = 256  # pixels of the short side before the crop, the usual ImageNet evaluation
CROP = 224  # pixels of the square cut out of the centre
DRAFT_GAP = 3  # JPEG: decode at 1/2, 1/4 or 1/8 only while the short side stays 3 x RESIZE or more

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")  # fewer parsers, fewer holes: no TIFF, PSD, EPS ...

EXIF_ORIENTATION = 0x0112  # the tag; its values 2 to 8 say how the stored pixels become upright
UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """These bytes are no image that can be decoded; the message says why."""


def decode(encoded: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode one JPEG, PNG, WebP or GIF (its first frame) to upright RGB, resized and centre-cropped.

    The short side is resized to `RESIZE` (bicubic with antialiasing) and a `CROP` x `CROP` square is cut
    out of the centre, with the roundings of torchvision's `Resize` and `CenterCrop`. Transparent pixels
    are laid over white; 16-bit grey is scaled to 8 bits.

    Returns UINT8 [224, 224, 3]. Raises `ImageError` for anything else than a whole image within the
    limits; both limits are checked before any pixel is decoded.
    """
    with _opened(encoded, max_bytes, max_pixels) as image:
        width, height = image.size
        drafted = image.draft(None, (DRAFT_GAP * RESIZE, DRAFT_GAP * RESIZE))
        if drafted:  # the exact size after DCT scaling: 3557 columns at 1/2 are 1778.5, not 1779
            _, (_, _, width, height) = drafted
        orientation = image.getexif().get(EXIF_ORIENTATION)
        box = _crop_box(width, height, orientation)
        pixels = _on_white(image).convert("RGB").resize((CROP, CROP), Image.Resampling.BICUBIC, box)
        return np.asarray(_upright(pixels, orientation))


def decode_whole(encoded: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image as `decode` does, with the same refusals, but at its own size.

    Returns it upright, in mode "L" or "RGB".
    """
    with _opened(encoded, max_bytes, max_pixels) as image:
        orientation = image.getexif().get(EXIF_ORIENTATION)
        image = _on_white(image)
        image = image if image.mode == "L" else image.convert("RGB")
        image.load()  # here, where it may fail
        return _upright(image, orientation)


@contextmanager
def _opened(encoded: bytes, max_bytes: int, max_pixels: int) -> Iterator[Image.Image]:
    """The image, its pixels not decoded yet; what goes wrong with it inside the block is an ImageError."""
    if not encoded:
        raise ImageError("empty: there are no bytes")
    if len(encoded) > max_bytes:
        raise ImageError(f"too long: {len(encoded):,} bytes, the limit is {max_bytes:,}")
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(f"too many pixels: {width} x {height}, the limit is {max_pixels:,}")
        yield image
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"too many pixels: {error}") from None
    except Exception as error:  # Pillow's parsers raise whatever a broken file makes them run into
        raise ImageError(f"cannot be decoded: {error}") from error


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it, not scale it
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image


def _upright(image: Image.Image, orientation: int | None) -> Image.Image:
    return image.transpose(UPRIGHT_BY[orientation]) if orientation in UPRIGHT_BY else image


def _crop_box(width: float, height: float, orientation: int | None) -> tuple[float, float, float, float]:
    """The centre crop of the resized upright image, as (left, top, right, bottom) in stored pixels.

    Resizing just this box computes nothing that the crop would throw away, and turning the small result
    upright is cheaper than turning the photograph.
    """
    swapped = orientation in (5, 6, 7, 8)
    upright_width, upright_height = (height, width) if swapped else (width, height)
    short = min(upright_width, upright_height)
    resized_width, resized_height = int(RESIZE * upright_width / short), int(RESIZE * upright_height / short)
    x_scale, y_scale = upright_width / resized_width, upright_height / resized_height
    left, top = round((resized_width - CROP) / 2), round((resized_height - CROP) / 2)
    left, right = left * x_scale, (left + CROP) * x_scale
    top, bottom = top * y_scale, (top + CROP) * y_scale
    if swapped:
        left, top, right, bottom = top, left, bottom, right
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
