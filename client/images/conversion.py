"""Images that the server's decoder does not take, made into PNG or WebP without loss.

The server opens JPEG, PNG, WebP and GIF only: fewer parsers, fewer holes. Whatever else Pillow opens is
opened here, on the machine of whoever sends it, and its pixels are sent. Nothing is resized: the server's
decoder does that (fitting.py is for models whose pixels it does not make).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from ..common.identity import log
from ..errors import InvalidImage

__all__ = ["MAX_BYTES", "MAX_PIXELS", "converted", "is_taken_by_the_server", "lossless"]

MAX_BYTES = 512 * 2**20  # of a file that is converted; an uncompressed one of MAX_PIXELS at 64 bits
MAX_PIXELS = 64_000_000  # as the server's own limit, checked in the header
SERVER_BYTES = 32 * 2**20  # what the server's decoder takes
WEBP_MAX_SIDE = 16_383
PNG_COMPRESSION = 1  # 0..9; lossless at any level, and 1 is several times faster than the default 6
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
# EPS would start Ghostscript; the rest are no photographs, or need libraries that nobody has.
_NEVER = frozenset({"BUFR", "EPS", "FPX", "GRIB", "HDF5", "IPTC", "MIC", "MPEG", "WMF", "XVTHUMB"})
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_RECOGNISED = (b"II*\0", b"MM\0*", b"BM", b"\0\0\0\x0cjP  ", b"8BPS")  # TIFF, BMP, JPEG 2000, PSD


def is_taken_by_the_server(data: bytes) -> bool:
    """By its first bytes: JPEG, PNG, GIF or WebP."""
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
    return data.startswith(starts) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def converted(data: bytes, name: str) -> bytes:
    """As it is where the server takes it, or no format is recognised; else upright pixels, without loss.

    name: of the image, for what is logged. Raises InvalidImage, for more than 64 million pixels as well.
    """
    if is_taken_by_the_server(data):
        return data
    _register_heif(data)
    with _readable():
        try:
            image = Image.open(io.BytesIO(data), formats=_formats())
        except Image.DecompressionBombError:
            raise InvalidImage(f"too many pixels: the limit is {MAX_PIXELS:,}.") from None
        except UnidentifiedImageError:
            is_avif = data[4:8] == b"ftyp" and data[8:12] in _AVIF_BRANDS
            if is_avif and not features.check("avif"):
                raise InvalidImage("an AVIF image: install Pillow 11.3 or later to send it.") from None
            if is_avif or data.startswith(_RECOGNISED):
                raise InvalidImage(
                    "cannot be decoded: cut off, or of a kind that Pillow cannot open."
                ) from None
            return data  # the server says what it takes
        if image.width * image.height > MAX_PIXELS:
            raise InvalidImage(
                f"too many pixels: {image.width} x {image.height}, the limit is {MAX_PIXELS:,}."
            )
        if _has_more_pages(image):
            log.warning("%s: has several pages; the first is taken", name)
        image.load()
        return lossless(ImageOps.exif_transpose(image), name)


def lossless(image: Image.Image, name: str = "an image") -> bytes:
    """PNG; WebP where that is longer than the server takes; JPEG, and a warning, where WebP is, too.

    Raises InvalidImage.
    """
    if not (image.width and image.height):
        raise InvalidImage("empty: it has no pixels.")
    image = _in_a_png_mode(image)
    data = _saved(image, "PNG", compress_level=PNG_COMPRESSION)
    if len(data) > SERVER_BYTES and image.mode in ("RGB", "RGBA") and max(image.size) <= WEBP_MAX_SIDE:
        data = _saved(image, "WEBP", lossless=True, quality=0, method=0, exact=True)
    if len(data) > SERVER_BYTES and image.mode in ("RGB", "L"):
        log.warning(
            "%s: sent as JPEG of quality 95, as without loss it is longer than the server takes", name
        )
        data = _saved(image, "JPEG", quality=95, subsampling=0)
    return data


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _in_a_png_mode(image: Image.Image) -> Image.Image:
    if image.mode in _PNG_MODES:
        return image
    if image.mode.startswith("I"):  # convert("RGB") would clip what is brighter than 255 to white
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise InvalidImage(
                f"pixels from {pixels.min()} to {pixels.max()}: scale them to 8 or 16 bits first."
            )
        return Image.fromarray(pixels.astype(np.uint16))
    if image.mode == "F":
        raise InvalidImage("pixels are floats, and what is white nobody knows: scale them to 8 bits first.")
    with _readable():
        return image.convert({"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}.get(image.mode, "RGB"))


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever Pillow's parsers run into is an InvalidImage."""
    try:
        yield
    except InvalidImage:
        raise
    except Exception as error:
        raise InvalidImage(f"cannot be decoded: {error}.") from None


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in _NEVER]


def _has_more_pages(image: Image.Image) -> bool:
    """Of a TIFF: without counting them, as a chain of pages may be very long."""
    if image.format != "TIFF":
        return False
    try:
        image.seek(1)
    except EOFError:
        return False
    finally:
        image.seek(0)
    return True


def _register_heif(data: bytes) -> None:
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIF_BRANDS:
        return
    try:
        import pillow_heif
    except ImportError:
        raise InvalidImage("a HEIC image; `pip install pillow-heif`, and it can be sent.") from None
    pillow_heif.register_heif_opener()
