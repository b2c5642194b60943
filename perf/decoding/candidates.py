"""The decoders that `python -m perf decoders` compares: JPEG bytes in, UINT8 [224, 224, 3] out.

Each entry of `CANDIDATES` makes one, or raises `Missing` with the package that it lacks.
"""

import importlib
import io
from collections.abc import Callable
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.model_code import decoding

__all__ = ["CANDIDATES", "Missing"]

RESIZE, CROP = 256, 224
Pixels = NDArray[np.uint8]
Decode = Callable[[bytes], Pixels]
Box = tuple[float, float, float, float]


class Missing(RuntimeError):
    """A package that a candidate needs is not installed."""


def _need(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library of it
        raise Missing(f"pip install {package} ({error})") from None


def _box(width: float, height: float) -> Box:
    """The centre crop in source pixels."""
    short = min(width, height)
    x_scale, y_scale = width / int(RESIZE * width / short), height / int(RESIZE * height / short)
    left, top = (round((int(RESIZE * side / short) - CROP) / 2) for side in (width, height))
    return left * x_scale, top * y_scale, (left + CROP) * x_scale, (top + CROP) * y_scale


def _pillow_resize(image: Image.Image, size: tuple[float, float] | None = None) -> Pixels:
    box = _box(*(size or image.size))
    return np.asarray(image.resize((CROP, CROP), Image.Resampling.BICUBIC, box))


def _open(encoded: bytes, gap: float | None) -> tuple[Image.Image, tuple[float, float]]:
    """A decoded JPEG and its exact size, reduced while its short side stays `gap` x RESIZE or more."""
    image = Image.open(io.BytesIO(encoded))
    size: tuple[float, float] = image.size
    if gap and (drafted := image.draft(None, (int(gap * RESIZE), int(gap * RESIZE)))):
        _, (_, _, width, height) = drafted
        size = width, height
    image.load()
    return image, size


def served() -> Decode:
    """The code that image_decoder serves."""
    return decoding.decode


def pillow(gap: float | None = None) -> Callable[[], Decode]:
    """gap: decode reduced while the short side stays `gap` x 256 pixels or more; None: at full size."""
    return lambda: lambda encoded: _pillow_resize(*_open(encoded, gap))


def pillow_reducing() -> Decode:
    """Decoded at full size; `resize` first reduces it by a whole factor (reducing_gap)."""

    def decode(encoded: bytes) -> Pixels:
        image = Image.open(io.BytesIO(encoded)).convert("RGB")
        box = _box(*image.size)
        return np.asarray(image.resize((CROP, CROP), Image.Resampling.BICUBIC, box, reducing_gap=2.0))

    return decode


def cykooz(passes: int, gap: float | None = None) -> Callable[[], Decode]:
    """Pillow decodes, cykooz-resizer resizes; raises `Missing`.

    passes: 2 takes the rows first, in a call of their own; 1 is one call, columns first. gap: as in `pillow`.
    """

    def make() -> Decode:
        resizer = _need("cykooz_resizer", "cykooz-resizer")

        def decode(encoded: bytes) -> Pixels:
            image, size = _open(encoded, gap)
            return _cykooz_resize(resizer, image, _box(*size), passes)

        return decode

    return make


def _cykooz_resize(library: Any, image: Image.Image, box: Box, passes: int) -> Pixels:
    """In two passes rows come first, then columns; in one it is columns first."""
    left, top, right, bottom = box
    x_scale, y_scale = (right - left) / CROP, (bottom - top) / CROP
    before_x, after_x = min(4, int(left / x_scale)), min(4, int((image.width - right) / x_scale + 1e-6))
    before_y, after_y = min(4, int(top / y_scale)), min(4, int((image.height - bottom) / y_scale + 1e-6))
    left, right = left - before_x * x_scale, min(right + after_x * x_scale, image.width)
    top, bottom = top - before_y * y_scale, min(bottom + after_y * y_scale, image.height)
    size = CROP + before_x + after_x, CROP + before_y + after_y
    if passes == 2:
        first, last = floor(top), ceil(bottom)
        image = _cykooz_call(library, image, (size[0], last - first), (left, first, right, last))
        left, top, right, bottom = 0, top - first, size[0], bottom - first
    image = _cykooz_call(library, image, size, (left, top, right, bottom))
    return np.asarray(image)[before_y : before_y + CROP, before_x : before_x + CROP]


def _cykooz_call(library: Any, image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    left, top, right, bottom = box
    target = Image.new("RGB", size)
    options = library.ResizeOptions(
        library.ResizeAlg.convolution(library.FilterType.catmull_rom),
        crop_box=library.CropBox(left, top, right - left, bottom - top),
        use_alpha=False,
    )
    library.Resizer().resize_pil(image, target, options)
    return target


def simplejpeg() -> Decode:
    """simplejpeg decodes at full size, Pillow resizes. Raises `Missing`."""
    library = _need("simplejpeg", "simplejpeg")
    return lambda encoded: _pillow_resize(Image.fromarray(library.decode_jpeg(encoded)))


def simplejpeg_scaled() -> Decode:
    """The same, decoded reduced while both sides stay 3 x 256 pixels or more."""
    library = _need("simplejpeg", "simplejpeg")

    def decode(encoded: bytes) -> Pixels:
        least = 3 * RESIZE
        return _pillow_resize(
            Image.fromarray(library.decode_jpeg(encoded, min_height=least, min_width=least, min_factor=1))
        )

    return decode


def opencv(interpolation: str | None, reduced: bool = False) -> Callable[[], Decode]:
    """`interpolation` None: Pillow resizes. `reduced`: at half size where the short side allows."""

    def make() -> Decode:
        cv2 = _need("cv2", "opencv-python-headless")
        cv2.setNumThreads(1)

        def decode(encoded: bytes) -> Pixels:
            flag = cv2.IMREAD_COLOR
            if reduced and min(Image.open(io.BytesIO(encoded)).size) >= 4 * RESIZE:
                flag = cv2.IMREAD_REDUCED_COLOR_2
            pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag)
            if interpolation is None:
                return _pillow_resize(Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)))
            left, top, right, bottom = map(round, _box(pixels.shape[1], pixels.shape[0]))
            small = cv2.resize(
                pixels[top:bottom, left:right], (CROP, CROP), interpolation=getattr(cv2, interpolation)
            )
            return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))

        return decode

    return make


def vips_thumbnail() -> Decode:
    """libvips decodes, reduces while it does, and resizes in one call. Raises `Missing`."""
    library = _need("pyvips", "pyvips pyvips-binary")
    library.cache_set_max(0)

    def decode(encoded: bytes) -> Pixels:
        width, height = Image.open(io.BytesIO(encoded)).size
        short = min(width, height)
        size = int(RESIZE * width / short), int(RESIZE * height / short)
        image = library.Image.thumbnail_buffer(encoded, size[0], height=size[1], size="force")
        left, top = round((size[0] - CROP) / 2), round((size[1] - CROP) / 2)
        return np.asarray(image.crop(left, top, CROP, CROP).numpy())

    return decode


def vips_cubic() -> Decode:
    """libvips decodes at full size, and resizes by its cubic kernel. Raises `Missing`."""
    library = _need("pyvips", "pyvips pyvips-binary")

    def decode(encoded: bytes) -> Pixels:
        image = library.Image.new_from_buffer(encoded, "")
        short = min(image.width, image.height)
        width, height = int(RESIZE * image.width / short), int(RESIZE * image.height / short)
        image = image.reduceh(image.width / width, kernel="cubic").reducev(
            image.height / height, kernel="cubic"
        )
        left, top = round((width - CROP) / 2), round((height - CROP) / 2)
        return np.asarray(image.crop(left, top, CROP, CROP).numpy())

    return decode


def imagecodecs() -> Decode:
    """imagecodecs decodes at full size, Pillow resizes. Raises `Missing`."""
    library = _need("imagecodecs", "imagecodecs")
    return lambda encoded: _pillow_resize(Image.fromarray(library.jpeg8_decode(encoded)))


def kornia() -> Decode:
    """kornia-rs decodes at full size, by libjpeg-turbo, and Pillow resizes. Raises `Missing`."""
    library = _need("kornia_rs", "kornia-rs")

    def decode(encoded: bytes) -> Pixels:
        pixels = np.asarray(library.io.decode_image_jpegturbo(encoded, "rgb"))
        return _pillow_resize(Image.fromarray(pixels))

    return decode


CANDIDATES: dict[str, Callable[[], Decode]] = {
    "image_decoder": served,
    "Pillow": pillow(),
    "Pillow, scaled while 2 x 256": pillow(2),
    "Pillow, scaled while 3 x 256": pillow(3),
    "Pillow, scaled while 4 x 256": pillow(4),
    "Pillow, reducing_gap=2": pillow_reducing,
    "Pillow, cykooz-resizer in 1 call": cykooz(1),
    "Pillow, cykooz-resizer in 2 calls": cykooz(2),
    "2 calls, scaled while 2 x 256": cykooz(2, 2),
    "2 calls, scaled while 3 x 256": cykooz(2, 3),
    "2 calls, scaled while 4 x 256": cykooz(2, 4),
    "2 calls, scaled while 6 x 256": cykooz(2, 6),
    "simplejpeg, Pillow": simplejpeg,
    "simplejpeg scaled, Pillow": simplejpeg_scaled,
    "OpenCV, Pillow": opencv(None),
    "OpenCV, INTER_AREA": opencv("INTER_AREA"),
    "OpenCV, INTER_CUBIC": opencv("INTER_CUBIC"),
    "OpenCV reduced, INTER_AREA": opencv("INTER_AREA", reduced=True),
    "libvips, thumbnail": vips_thumbnail,
    "libvips, cubic": vips_cubic,
    "imagecodecs, Pillow": imagecodecs,
    "kornia-rs, Pillow": kornia,
}
