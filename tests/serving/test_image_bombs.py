"""Images made to keep a server busy: refused by their header, one by one, in each model that opens images."""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
import tritonclient.grpc as grpc
from PIL import Image, ImageFile, JpegImagePlugin, WebPImagePlugin
from tritonclient.utils import InferenceServerException

from client import InvalidImage, VisionClient
from export.model_code import ctc, decoding
from export.sources.photographs import photographs
from tests.pictures import pixels
from tests.serving.test_image_decoder import encoded
from tests.text_lines import TEXTS, rendered

GREY = Image.fromarray((np.arange(64 * 64) % 251).astype(np.uint8).reshape(64, 64))
DECODERS = {"decode": decoding.decode, "decode_whole": decoding.decode_whole}


def png(width, height, *parts):
    """Grey and black, with `parts`, (name, data), before its pixels."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = (b"IDAT", zlib.compress(bytes((width + 1) * height)))
    chunks = [header, *parts, pixels, (b"IEND", b"")]
    joined = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(joined)


def jpeg(*segments, after=b""):
    """With `segments`, (marker, data), behind the first one, and bytes after them."""
    whole = encoded(GREY, "JPEG")
    joined = (bytes([0xFF, m]) + struct.pack(">H", len(d) + 2) + d for m, d in segments)
    return whole[:20] + b"".join(joined) + after + whole[20:]


def gif(extension):
    whole = encoded(GREY, "GIF")
    first = whole.index(b",", 13 + 3 * 256)
    return whole[:first] + extension + whole[first:]


def with_scans(count, size=None):
    """A progressive JPEG whose last scan comes `count` times more; `size` is what its header claims."""
    whole = encoded(GREY, "JPEG", progressive=True)
    if size:
        frame = whole.index(b"\xff\xc2")
        whole = whole[: frame + 5] + struct.pack(">HH", *size[::-1]) + whole[frame + 9 :]
    tables, end = whole.rindex(b"\xff\xc4", 0, whole.rindex(b"\xff\xda")), whole.rindex(b"\xff\xd9")
    return whole[:end] + whole[tables:end] * count + whole[end:]


def tags(size, count=5_000):
    """Exif data of `size` bytes whose tags are as long as all of it."""
    entries = b"".join(struct.pack("<HHII", number, 7, size, 0) for number in range(1000, 1000 + count))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(4)).ljust(size, b"\0")


SIDES, PIXELS, PARTS, SCANS = "too long a side", "too many pixels", "too many parts", "too many scans"
EXIF = "too much Exif data: the limit is 131,072 bytes"
# Made when a test wants them, not in every process that collects the tests.
BOMBS = {
    "tall": (lambda: png(47, 1_361_000), SIDES),
    "wide": (lambda: png(1_361_000, 47), SIDES),
    "a column": (lambda: png(1, 65_536), SIDES),
    "pixels": (lambda: png(8_001, 8_000), PIXELS),
    "webp pixels": (lambda: encoded(Image.new("L", (16_383, 4_000)), "WEBP", quality=0, method=0), PIXELS),
    "gif pixels": (
        lambda: encoded(GREY, "GIF").replace(struct.pack("<HH", 64, 64), struct.pack("<HH", 9_000, 9_000)),
        PIXELS,
    ),
    "unknown chunks": (lambda: png(64, 64, *[(b"abCd", b"")] * 5_000), PARTS),
    "text chunks": (lambda: png(64, 64, *[(b"tEXt", b"a\0b")] * 5_000), PARTS),
    "profiles": (lambda: png(64, 64, *[(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**20), 9))] * 1_000), PARTS),
    "empty pixels": (lambda: png(64, 64, *[(b"IDAT", b"")] * 5_000), PARTS),
    "comments": (lambda: jpeg(*[(0xFE, b"")] * 1_000), PARTS),
    "exif": (lambda: jpeg(*[(0xE1, b"Exif\0\0a")] * 1_000), PARTS),
    "tags": (
        lambda: jpeg(*[(0xE1, b"Exif\0\0" + part) for part in [tags(60_000), *[bytes(60_000)] * 10]]),
        EXIF,
    ),
    "tables": (lambda: jpeg(*[(0xDB, b"\0" + b"\1" * 64)] * 1_000), PARTS),
    "junk": (lambda: jpeg(after=bytes(5_000)), PARTS),
    "padding": (lambda: jpeg(after=b"\xff" * 5_000), PARTS),
    "scans": (lambda: with_scans(200), SCANS),
    "scans of many pixels": (lambda: with_scans(200, (8_000, 8_000)), SCANS),
    "gif comments": (lambda: gif(b"\x21\xfe\x01a\0" * 2_000), PARTS),
    "gif comment": (lambda: gif(b"\x21\xfe" + b"\x01a" * 2_000 + b"\0"), PARTS),
    "gif extension": (lambda: gif(b"\x21\xff\x0bNETSCAPE2.0" + b"\x01a" * 2_000 + b"\0"), PARTS),
}


@functools.cache
def bomb(name):
    """Its bytes."""
    return BOMBS[name][0]()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_a_pixel_is_decoded(name, decoder, monkeypatch):
    data, message = bomb(name), BOMBS[name][1]
    if name != "empty pixels":  # those are its pixels, as far as the header says
        for kind in (ImageFile.ImageFile, WebPImagePlugin.WebPImageFile):
            monkeypatch.setattr(kind, "load", never)
    with pytest.raises(decoding.ImageError, match=message):
        DECODERS[decoder](data)


def never(*arguments):
    raise AssertionError("pixels were decoded")


SOUND = {
    "the longest side": lambda: png(65_535, 30),
    "the most pixels": lambda: png(8_000, 8_000),
    "a hundred chunks": lambda: png(64, 64, *[(b"tEXt", b"a\0b")] * 100),
    "small chunks of pixels": lambda: encoded(Image.effect_noise((1000, 1000), 90), "PNG"),
    "12 MB of metadata": lambda: jpeg(
        *[(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000))] * 200
    ),
    "two exifs": lambda: jpeg((0xE1, b"Exif\0\0" + bytes(60_000)), (0xE1, b"Exif\0\0" + bytes(60_000))),
    "padded": lambda: jpeg(after=b"\xff" * 100),
    "ten scans": lambda: encoded(GREY, "JPEG", progressive=True),
    "scans of the thumbnail": lambda: jpeg((0xE1, b"\xff\xda" * 1_000)),
    "a video behind": lambda: encoded(GREY, "JPEG") + b"\xff\xda" * 10_000,
    "a comment": lambda: gif(b"\x21\xfe" + (b"\xff" + b"a" * 255) * 50 + b"\0"),
    "frames": lambda: encoded(
        GREY, "GIF", save_all=True, append_images=[GREY.rotate(a) for a in range(1, 300)]
    ),
    "webp frames": lambda: encoded(
        GREY, "WEBP", save_all=True, append_images=[GREY.rotate(a) for a in range(1, 100)]
    ),
}


@pytest.mark.filterwarnings("ignore:Tag data larger than file")  # a mass of them
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "JPEG"])
def test_orientation_is_found_before_a_mass_of_other_tags(image_format, orientation):
    """These are not read beyond the limit: each may be as long as all of them, and Pillow 12 reads each."""
    size = 60_000 if image_format == "JPEG" else 1_000_000
    exif = bytearray(tags(size))
    exif[10:22] = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tall = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (300, 1)))
    prefix = b"Exif\0\0" if image_format == "JPEG" else b""
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(tall, image_format, exif=prefix + bytes(exif), **options)
    assert decoding.decode_whole(data).size == ((64, 300) if orientation == 1 else (300, 64))
    seen = []
    load = Image.Exif.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Exif, "load", lambda self, given: (seen.append(len(given)), load(self, given))[1])
        decoding.decode(data)
    assert 0 < max(seen) <= decoding.MAX_EXIF_BYTES


@pytest.mark.parametrize("name", SOUND)
def test_sound_images_near_the_limits_are_decoded(name):
    data = SOUND[name]()
    assert decoding.decode(data).shape == (224, 224, 3)
    assert decoding.decode_whole(data).width


def test_several_images_in_one_jpeg_are_its_first():
    file = io.BytesIO()
    GREY.save(file, "MPO", save_all=True, append_images=[GREY.rotate(90)])
    assert isinstance(Image.open(file), JpegImagePlugin.JpegImageFile)
    np.testing.assert_array_equal(decoding.decode(file.getvalue()), decoding.decode(encoded(GREY, "JPEG")))


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "WEBP"])
@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_what_is_cut_off_is_refused(image_format, cut):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8))
    data = encoded(noise, image_format)
    with pytest.raises(decoding.ImageError):
        decoding.decode(data[: int(len(data) * cut)])


def test_the_beam_is_narrower_where_everything_is_likely(monkeypatch):
    """The work of one line is bounded; a line of text has the whole beam."""
    expansions = []

    def nlargest(width, grown, key):
        grown = list(grown)
        expansions.append(len(grown))
        return heap(width, grown, key)

    heap = ctc.nlargest
    monkeypatch.setattr(ctc, "nlargest", nlargest)
    rng = np.random.default_rng(0)
    noise = np.log(rng.dirichlet(np.full(122, 5.0), 1024))
    ctc.beam_search(noise, 64)
    assert sum(expansions) <= 1.1 * ctc.MOST_EXPANSIONS
    text = np.full((1024, 122), -20.0)
    text[np.arange(1024), np.arange(1024) % 7] = -0.1
    text[np.arange(1024), np.arange(1024) % 5 + 7] = -2.5
    expansions.clear()
    whole = ctc.beam_search(text, 64)
    assert max(expansions) > 64
    monkeypatch.setattr(ctc, "MOST_EXPANSIONS", 10**9)
    assert ctc.beam_search(text, 64) == whole


@pytest.fixture(scope="module")
def line():
    return encoded(rendered(TEXTS[0]), "PNG")


def infer(url, model, images):
    tensor = grpc.InferInput("encoded_image", [len(images), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[data] for data in images], object))
    with grpc.InferenceServerClient(url) as client:
        return client.infer(model, [tensor])


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["image_decoder", "recognize_objects", "recognize_scene", "explain_objects", "read_text"]
)
@pytest.mark.parametrize("name", BOMBS)
def test_every_model_names_the_image_and_the_limit(server, model, name, line):
    data, message = bomb(name), BOMBS[name][1]
    with pytest.raises(InferenceServerException, match=rf"image 2 of 3: {message}"):
        infer(server.grpc_url, model, [line, data, line])


@pytest.mark.parametrize("name", BOMBS)
def test_the_face_detector_takes_one_image_and_names_the_limit(server, name):
    """It takes fewer pixels than the others, which goes for the scans of many, too."""
    data, message = bomb(name), BOMBS[name][1]
    message = PIXELS if name == "scans of many pixels" else message
    with pytest.raises(InferenceServerException, match=rf"image 1 of 1: {message}"):
        infer(server.grpc_url, "detect_faces", [data])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_neighbours_in_a_batch_are_answered(server, protocol, line):
    url = f"{protocol}://{server.grpc_url if protocol == 'grpc' else server.http_url}"
    photo = photographs()[0].path.read_bytes()
    face = encoded(Image.fromarray(pixels("astronaut")[30:230, 130:330]), "PNG")
    bombs = [bomb(name) for name in BOMBS]
    with VisionClient(url, concurrency=32) as client:
        for ask, good, answer in (
            (client.classify, photo, lambda result: result.classes),
            (client.explain, photo, lambda result: (result.index, result.class_map.argmax())),
            (client.read_text, line, lambda result: result.text),
            (client.detect_faces, face, lambda result: result.faces),
        ):
            expected = answer(ask(good))
            results = ask([image for bomb in bombs for image in (bomb, good)], on_error="return")
            assert all(isinstance(result, InvalidImage) for result in results[0::2])
            assert [answer(result) for result in results[1::2]] == [expected] * len(bombs)
