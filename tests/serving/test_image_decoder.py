"""The pixels of image_decoder: equal to the reference transform, whatever the encoding; and its refusals."""

import io
import struct
import zlib

import numpy as np
import pytest
import tritonclient.grpc as grpc
from PIL import Image, ImageOps
from tritonclient.utils import InferenceServerException

from export.model_code import decoding
from export.sources.photographs import photographs
from tests.reference import reference_pixels


def encoded(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def difference(first, second):
    return np.abs(first.astype(int) - second.astype(int))


@pytest.fixture(scope="module")
def photograph():
    path = next(photo.path for photo in photographs() if photo.name == "chelsea")
    return Image.open(path).convert("RGB")


@pytest.mark.parametrize("photo", photographs(), ids=lambda photo: photo.name)
def test_photographs_have_the_reference_pixels(photo):
    pixels = decoding.decode(photo.path.read_bytes())
    assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.uint8)
    assert (
        difference(pixels, reference_pixels(Image.open(photo.path))).max() <= 1
    )  # rounding of a box, not of a crop


@pytest.mark.parametrize("short_side", [1000, 2049, 2401, 3600])
def test_decoding_large_jpegs_at_reduced_size_keeps_the_pixels(photograph, short_side):
    scale = short_side / min(photograph.size)
    large = photograph.resize((round(photograph.width * scale), round(photograph.height * scale)))
    data = encoded(large, "JPEG", quality=92)
    errors = difference(decoding.decode(data), reference_pixels(Image.open(io.BytesIO(data))))
    assert errors.mean() < 0.2
    assert errors.max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(451, 300), (300, 451), (641, 480)])
def test_exif_orientation_is_applied(photograph, size, orientation):
    stored = photograph.resize(size)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert difference(decoding.decode(data), reference_pixels(upright)).max() <= 2


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(photograph, mode):
    if mode == "I;16":
        grey = np.asarray(photograph.convert("L")).astype(np.uint16) * 257
        data = encoded(Image.fromarray(grey), "PNG")
        expected = reference_pixels(photograph.convert("L"))
    else:
        image = photograph.convert(mode)
        data = encoded(
            image, "JPEG" if mode == "CMYK" else "PNG", **({"quality": 95} if mode == "CMYK" else {})
        )
        expected = reference_pixels(image.convert("RGB") if mode != "CMYK" else Image.open(io.BytesIO(data)))
    dithered = mode in ("P", "1")  # hard edges at every pixel, where the roundings of rows and columns add up
    assert difference(decoding.decode(data), expected).max() <= (2 if dithered else 1)


@pytest.mark.parametrize("size", [(451, 300), (300, 600), (1400, 1000), (150, 90), (20, 30), (40, 700)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pixels_are_the_same_without_the_fast_resizer(photograph, monkeypatch, size, orientation):
    assert decoding.cykooz_resizer, "cykooz-resizer is not installed: run `make setup`"
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph.resize(size), "PNG", exif=exif)
    fast = decoding.decode(data)
    monkeypatch.setattr(decoding, "cykooz_resizer", None)
    assert difference(fast, decoding.decode(data)).max() <= 1


def test_tall_images_have_the_pixels_of_every_version_of_pillow(monkeypatch):
    """Noise shows which of rows and columns came first; the order is fixed, whatever Pillow's own is."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1235, 289, 3), dtype=np.uint8))
    rows = noise.resize((256, 1235), Image.Resampling.BICUBIC)
    expected = np.asarray(rows.resize((256, 1093), Image.Resampling.BICUBIC))[434:658, 16:240]
    for library in (decoding.cykooz_resizer, None):
        monkeypatch.setattr(decoding, "cykooz_resizer", library)
        errors = difference(decoding.decode(encoded(noise, "PNG")), expected)
        assert errors.max() <= 2
        assert (errors > 1).mean() < 1e-4


def test_transparency_is_laid_over_white():
    clear = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    assert (decoding.decode(encoded(clear, "PNG")) == 255).all()
    half = Image.new("RGBA", (300, 300), (0, 0, 0, 128))
    assert set(np.unique(decoding.decode(encoded(half, "PNG")))) == {127}


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_counts(image_format):
    frames = [Image.new("RGB", (300, 260), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], lossless=True)
    pixels = decoding.decode(data)
    assert (pixels[..., 0] > 250).all()
    assert (pixels[..., 2] < 5).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (223, 225)])
def test_odd_sizes_still_give_a_full_square(size):
    pixels = decoding.decode(encoded(Image.new("RGB", size, "green"), "PNG"))
    assert (pixels == [0, 128, 0]).all()


def png_header(width, height):
    """A PNG that claims a size and holds no pixels: what a decompression bomb looks like from outside."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


BAD_IMAGES = {
    "empty": (b"", "empty: there are no bytes"),
    "text": (b"hello, this is a text file", "not a JPEG, PNG, WEBP or GIF image"),
    "bomb": (png_header(30_000, 30_000), "too many pixels: the limit is 64,000,000"),
    "large": (png_header(9_000, 9_000), "too many pixels: 9000 x 9000, the limit is 64,000,000"),
    "tiff": (encoded(Image.new("RGB", (9, 9)), "TIFF"), "not a JPEG"),
    "headless": (png_header(300, 300), "cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images_are_refused_with_the_reason(name):
    data, message = BAD_IMAGES[name]
    with pytest.raises(decoding.ImageError, match=message):
        decoding.decode(data)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_truncated_images_are_refused(photograph, image_format):
    data = encoded(photograph, image_format)
    for length in (len(data) // 2, 40):
        with pytest.raises(decoding.ImageError):
            decoding.decode(data[:length])


def test_too_many_bytes_are_refused_unread():
    with pytest.raises(decoding.ImageError, match="too long: 1,001 bytes, the limit is 1,000"):
        decoding.decode(b"x" * 1001, max_bytes=1000)


def request(images):
    tensor = grpc.InferInput("encoded_image", [len(images), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[data] for data in images], object))
    return [tensor]


@pytest.mark.slow
def test_served_pixels_are_the_files_pixels(server):
    files = [photo.path.read_bytes() for photo in photographs()[:5]]
    with grpc.InferenceServerClient(server.grpc_url) as client:
        served = client.infer("image_decoder", request(files)).as_numpy("image")
    np.testing.assert_array_equal(served, np.stack([decoding.decode(data) for data in files]))


def test_a_served_batch_names_the_image_that_fails_and_why(server):
    good = photographs()[0].path.read_bytes()
    with grpc.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match=r"image 2 of 3: cannot be decoded: .*truncated"):
            client.infer("image_decoder", request([good, good[: len(good) // 2], good]))
        assert client.infer("image_decoder", request([good])).as_numpy("image").shape == (1, 224, 224, 3)
