"""Encoded image bytes to the pixels that the recognition models take.

The one definition of those pixels: `image_decoder` and `recognize_objects` serve it, and `export` verifies
models on the same pixels. `read_text` opens its images with it, too, so that all models take and refuse the
same files. It needs Pillow and numpy; with cykooz-resizer it resizes four times faster, to pixels within one
grey level of Pillow's (docs/decisions/0010).

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

try:
    import cykooz_resizer
except ImportError:
    cykooz_resizer = None

__all__ = [
    "CROP",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SCANS",
    "MAX_SIDE",
    "RESIZE",
    "ImageError",
    "decode",
    "decode_crop",
    "decode_whole",
]

MAX_BYTES = 32 * 2**20  # longer inputs are refused unread
MAX_PIXELS = 64_000_000  # width x height in the header; 64 Mpx decode to 192 MB of RGB
MAX_SIDE = 65_535  # pixels; only PNG knows longer ones
# The parsers read a file part by part, and some parts cost far more than their bytes: 30 MB took a minute.
# A segment, a chunk or a byte of junk is one to four reads.
MAX_HEADER_READS = 1_280  # before the pixels; a JPEG with 12 MB of metadata has about 800
MAX_READS = 4_096  # of pixels, and one more for every BYTES_PER_READ
BYTES_PER_READ = 256  # a PNG by libpng has a chunk every 8,192 bytes, each of three reads
# Pillow before 13 reads all tags of Exif data, each of which may be as long as all of it: gigabytes for 1 MB.
MAX_EXIF_BYTES = 128 * 1024  # a JPEG's segment holds 64 KB; what others have beyond is not read
MAX_SCANS = 100  # of a JPEG; each goes over all pixels, and progressive ones have about ten
RESIZE = 256  # pixels of the short side before the crop, the usual ImageNet evaluation
CROP = 224  # pixels of the square cut out of the centre
DRAFT_GAP = 4  # JPEG: decode at 1/2, 1/4 or 1/8 only while the short side stays 4 x RESIZE or more

ROUNDING = 1e-6  # pixels

Box = tuple[float, float, float, float]  # left, top, right, bottom

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")  # fewer parsers, fewer holes: no TIFF, PSD, EPS ...

EXIF = b"Exif\0\0"
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
SWAPPED = (5, 6, 7, 8)  # the stored rows are the upright image's columns


START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)  # that has a length, and the end


class ImageError(ValueError):
    """These bytes are no image that can be decoded; the message says why."""


def decode(encoded: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """Decode one JPEG, PNG, WebP or GIF (its first frame) to upright RGB, resized and centre-cropped.

    The short side is resized to `RESIZE` (bicubic with antialiasing) and a `CROP` x `CROP` square is cut
    out of the centre, with the roundings of torchvision's `Resize` and `CenterCrop`. Transparent pixels
    are laid over white; 16-bit grey is scaled to 8 bits.

    Returns UINT8 [224, 224, 3]. Raises `ImageError` for anything else than a whole image within the
    limits; those of its size, and of the parts before its pixels, are checked before any pixel is decoded.
    """
    return decode_crop(encoded, max_bytes=max_bytes, max_pixels=max_pixels)[0]


def decode_crop(
    encoded: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[Any], Box]:
    """As `decode`, and which part of the upright image that is: left, top, right and bottom of the crop, as
    shares of the image's width and height."""
    with _opened(encoded, max_bytes, max_pixels) as image:
        width: float
        height: float
        width, height = image.size
        drafted = image.draft(None, (DRAFT_GAP * RESIZE, DRAFT_GAP * RESIZE))
        if drafted:  # the exact size after DCT scaling: 3557 columns at 1/2 are 1778.5, not 1779
            _, (_, _, width, height) = drafted
        orientation = _orientation(image)
        box = _crop_box(width, height, orientation)
        image = _on_white(image)
        if image.mode not in ("L", "RGB"):  # convert() copies even where there is nothing to do
            image = image.convert("RGB")
        pixels = _upright(_resized(image, box, orientation in SWAPPED), orientation).convert("RGB")
        if orientation in SWAPPED:
            width, height = height, width
        left, top, right, bottom = _crop_box(width, height, None)
        return np.asarray(pixels), (left / width, top / height, right / width, bottom / height)


def decode_whole(encoded: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image as `decode` does, with the same refusals, but at its own size.

    Returns it upright, in mode "L" or "RGB".
    """
    with _opened(encoded, max_bytes, max_pixels) as image:
        orientation = _orientation(image)
        image = _on_white(image)
        image = image if image.mode == "L" else image.convert("RGB")
        image.load()  # here, where it may fail
        return _upright(image, orientation)


class _CountedReads(io.BytesIO):
    """A file that ends the loops of Pillow's parsers, which are in Python and know no bounds."""

    left = MAX_HEADER_READS
    exif_left = MAX_EXIF_BYTES

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ImageError("too many parts: segments, chunks, or bytes between them")
        data = super().read(size)
        if data.startswith(EXIF):  # a JPEG's, which joins them and reads their tags at once
            self.exif_left -= len(data)
            if self.exif_left < 0:
                raise ImageError(f"too much Exif data: the limit is {MAX_EXIF_BYTES:,} bytes")
        return data


def _scans(jpeg: bytes) -> int:
    """How many times the pixels of a JPEG are gone over, up to one more than the limit."""
    if jpeg.count(START_OF_SCAN) <= MAX_SCANS:  # what may be a thumbnail's, or a video's behind the image
        return 0
    scans, position = 0, 2
    while scans <= MAX_SCANS and (marker := MARKER.search(jpeg, position)):
        if marker[0] == END_OF_IMAGE:
            break
        scans += marker[0] == START_OF_SCAN
        position = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
    return scans


@contextmanager
def _opened(encoded: bytes, max_bytes: int, max_pixels: int) -> Iterator[Image.Image]:
    """The image, its pixels not decoded yet; what goes wrong with it inside the block is an ImageError."""
    if not encoded:
        raise ImageError("empty: there are no bytes")
    if len(encoded) > max_bytes:
        raise ImageError(f"too long: {len(encoded):,} bytes, the limit is {max_bytes:,}")
    try:
        file = _CountedReads(encoded)
        image = Image.open(file, formats=FORMATS)
        width, height = image.size
        if max(width, height) > MAX_SIDE:
            raise ImageError(f"too long a side: {width} x {height} pixels, the limit is {MAX_SIDE:,}")
        if width * height > max_pixels:
            raise ImageError(f"too many pixels: {width} x {height}, the limit is {max_pixels:,}")
        if image.format in ("JPEG", "MPO") and (scans := _scans(encoded)) > MAX_SCANS:
            raise ImageError(f"too many scans: {scans} or more, the limit is {MAX_SCANS}")
        file.left = MAX_READS + len(encoded) // BYTES_PER_READ
        yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except Image.DecompressionBombError:  # Pillow's own limit, which is another number
        raise ImageError(f"too many pixels: the limit is {max_pixels:,}") from None
    except Exception as error:  # Pillow's parsers raise whatever a broken file makes them run into
        raise ImageError(f"cannot be decoded: {error}") from error


def _orientation(image: Image.Image) -> int | None:
    if image.format == "PNG" and "exif" not in image.info:
        image.load()  # as its getexif() would: the chunk may follow the pixels
    if exif := image.info.get("exif"):
        image.info["exif"] = exif[:MAX_EXIF_BYTES]
    if len(image.info.get("Raw profile type exif", "")) > 2 * MAX_EXIF_BYTES:  # in hexadecimal
        raise ImageError(f"too much Exif data: the limit is {MAX_EXIF_BYTES:,} bytes")
    return image.getexif().get(EXIF_ORIENTATION)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it, not scale it
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image


def _upright(image: Image.Image, orientation: int | None) -> Image.Image:
    return image.transpose(UPRIGHT_BY[orientation]) if orientation in UPRIGHT_BY else image


def _resized(image: Image.Image, box: Box, columns_first: bool) -> Image.Image:
    """`box` of an image in mode "L" or "RGB" as CROP x CROP pixels: bicubic with antialiasing.

    In two calls, the rows of the upright image first, as every Pillow before 13 does in one. Pillow 13 begins
    with the columns of tall images, cykooz-resizer with those of all: where bicubic overshoots and is clipped
    in between, pixels then differ by up to tens of grey levels.
    """
    left, right, width, before = _with_margin(box[0], box[2], image.width)
    top, bottom, height, above = _with_margin(box[1], box[3], image.height)
    if columns_first:
        first, last = floor(left), ceil(right)
        image = _convolved(image, (last - first, height), (first, top, last, bottom))
        left, right, top, bottom = left - first, right - first, 0, height
    else:
        first, last = floor(top), ceil(bottom)
        image = _convolved(image, (width, last - first), (left, first, right, last))
        left, right, top, bottom = 0, width, top - first, bottom - first
    image = _convolved(image, (width, height), (left, top, right, bottom))
    return image.crop((before, above, before + CROP, above + CROP))


def _with_margin(low: float, high: float, limit: int) -> tuple[float, float, int, int]:
    """One side of a box, grown by the pixels around it that bicubic reads: cykooz-resizer reads no others.

    Grown by whole pixels of the result, so that its grid stays. Returns the new `low` and `high`, how many
    pixels the result then has, and how many of them lie before the box.
    """
    scale = (high - low) / CROP
    reach = ceil(2 * max(1, 1 / scale)) + 1  # two source pixels or two of the result, whichever are larger
    before = min(reach, int(low / scale + ROUNDING))
    after = min(reach, int((limit - high) / scale + ROUNDING))
    low, high = max(0, low - before * scale), min(limit, high + after * scale)
    return low, high, before + CROP + after, before


def _convolved(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """`box` at another size; a side whose size stays is left alone."""
    if cykooz_resizer is None:
        return image.resize(size, Image.Resampling.BICUBIC, box)
    left, top, right, bottom = box
    result = Image.new(image.mode, size)
    options = cykooz_resizer.ResizeOptions(
        cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.catmull_rom),  # Pillow's BICUBIC
        crop_box=cykooz_resizer.CropBox(left, top, right - left, bottom - top),
        use_alpha=False,
    )
    cykooz_resizer.Resizer().resize_pil(image, result, options)  # without Python's lock
    return result


def _crop_box(width: float, height: float, orientation: int | None) -> Box:
    """The centre crop of the resized upright image, as (left, top, right, bottom) in stored pixels.

    Resizing just this box computes nothing that the crop would throw away, and turning the small result
    upright is cheaper than turning the photograph.
    """
    swapped = orientation in SWAPPED
    upright_width, upright_height = (height, width) if swapped else (width, height)
    short = min(upright_width, upright_height)
    resized_width, resized_height = int(RESIZE * upright_width / short), int(RESIZE * upright_height / short)
    x_scale, y_scale = upright_width / resized_width, upright_height / resized_height
    first_column, first_row = round((resized_width - CROP) / 2), round((resized_height - CROP) / 2)
    left, right = first_column * x_scale, (first_column + CROP) * x_scale
    top, bottom = first_row * y_scale, (first_row + CROP) * y_scale
    if swapped:
        left, top, right, bottom = top, left, bottom, right
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
