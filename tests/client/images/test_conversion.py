"""What the server's decoder does not take: converted without loss, bounded, and said."""

import io
import json
import os
import struct
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from client import InvalidImage, VisionClient
from client.cli.main import main
from client.images import conversion
from client.images.conversion import converted, is_taken_by_the_server, lossless
from client.images.inputs import encoded_bytes, files_in
from export.sources.photographs import photographs
from tests.serving.test_image_decoder import decoding, encoded

PHOTO = Image.open(photographs()[0].path).convert("RGB").resize((320, 240))
LOSSLESS = {
    "BMP": {},
    "DIB": {},
    "JPEG2000": {"irreversible": False},
    "PCX": {},
    "PPM": {},
    "QOI": {},
    "SGI": {},
    "TGA": {},
    "TIFF": {"compression": "tiff_lzw"},
}


def opened(data):
    return Image.open(io.BytesIO(data))


def same(first, second):
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize("image_format", LOSSLESS)
def test_other_formats_are_sent_as_png_without_loss(image_format):
    data = encoded(PHOTO, image_format, **LOSSLESS[image_format])
    sent = encoded_bytes(data)
    assert is_taken_by_the_server(sent)
    same(opened(sent), PHOTO)
    same(decoding.decode(sent), decoding.decode(encoded(PHOTO, "PNG")))


def test_avif_is_sent_as_the_pixels_that_it_holds():
    data = encoded(PHOTO, "AVIF", quality=90)
    same(opened(encoded_bytes(data)), opened(data).convert("RGB"))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_what_the_server_takes_is_sent_as_it_is(image_format):
    data = encoded(PHOTO, image_format)
    assert encoded_bytes(data) == data
    assert encoded_bytes(data[:60]) == data[:60]  # the server says what is wrong with it


def test_what_nobody_knows_is_left_to_the_server():
    assert encoded_bytes(b"hello, this is a text file") == b"hello, this is a text file"


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PHOTO, "TIFF", exif=exif)
    assert opened(data).getexif().get(0x0112) == orientation
    same(opened(encoded_bytes(data)), ImageOps.exif_transpose(opened(data)))
    if orientation > 4:
        assert opened(encoded_bytes(data)).size == PHOTO.size[::-1]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L", "1", "P", "LA", "RGBA"])
def test_every_kind_of_pixel(mode):
    image = PHOTO.convert(mode)
    sent = opened(encoded_bytes(encoded(image, "TIFF")))
    if mode in ("CMYK", "YCbCr"):
        assert sent.mode == "RGB"
    else:
        assert sent.mode == mode
    same(sent.convert("RGB"), opened(encoded(image, "TIFF")).convert("RGB"))


@pytest.mark.parametrize(
    ("image_format", "order"), [("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2"), ("JPEG2000", "<u2")]
)
def test_16_bits_are_kept_and_not_clipped(image_format, order):
    grey = np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257
    image = Image.fromarray(grey)
    if order == ">u2":
        image = Image.frombytes("I;16B", image.size, grey.astype(order).tobytes())
    sent = encoded_bytes(encoded(image, image_format))
    np.testing.assert_array_equal(np.asarray(opened(sent)), grey)
    same(decoding.decode(sent), decoding.decode(encoded(PHOTO.convert("L"), "PNG")))


def test_alpha_is_laid_over_white_by_the_server():
    clear = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    assert (decoding.decode(encoded_bytes(encoded(clear, "TIFF"))) == 255).all()


@pytest.mark.parametrize(
    ("pixels", "said"),
    [(np.full((9, 9), 0.5, np.float32), "floats"), (np.full((9, 9), -5, np.int32), "pixels from -5 to -5")],
)
def test_pixels_whose_white_is_unknown(pixels, said):
    for image in (encoded(Image.fromarray(pixels), "TIFF"), Image.fromarray(pixels)):
        with pytest.raises(InvalidImage, match=said):
            encoded_bytes(image)


def test_the_first_page_is_taken_and_that_is_said(caplog, tmp_path):
    path = tmp_path / "scan.tif"
    PHOTO.save(path, save_all=True, append_images=[PHOTO.rotate(90)] * 3)
    same(opened(encoded_bytes(path)), PHOTO)
    assert f"{path}: has several pages; the first is taken" in caplog.messages


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pngs_longer_than_the_server_takes_are_webp(mode, monkeypatch):
    image = PHOTO.convert(mode)
    size = len(encoded(image, "PNG", compress_level=1))
    monkeypatch.setattr(conversion, "SERVER_BYTES", size)
    assert lossless(image).startswith(b"\x89PNG")
    monkeypatch.setattr(conversion, "SERVER_BYTES", size - 1)
    sent = lossless(image)
    assert sent[8:12] == b"WEBP"
    same(opened(sent).convert(mode), image)


def test_what_is_too_long_even_so_is_jpeg_and_that_is_said(monkeypatch, caplog):
    monkeypatch.setattr(conversion, "SERVER_BYTES", 1_000)
    sent = opened(encoded_bytes(encoded(PHOTO, "BMP")))
    assert (sent.format, sent.size) == ("JPEG", PHOTO.size)
    assert "an image: sent as JPEG of quality 95" in caplog.text


def tiff_header(width, height):
    """Claims a size, and holds no pixels."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


BOMBS = {
    "tiff": (tiff_header(30_000, 30_000), "too many pixels"),
    "tall tiff": (tiff_header(1, 64_000_001), "too many pixels: 1 x 64000001, the limit is 64,000,000"),
    "bmp": (
        encoded(PHOTO, "BMP")[:18] + struct.pack("<ii", 50_000, 50_000) + encoded(PHOTO, "BMP")[26:],
        "too many",
    ),
    "cut tiff": (encoded(PHOTO, "TIFF", compression="tiff_lzw")[:900], "cannot be decoded"),
    "cut bmp": (encoded(PHOTO, "BMP")[:900], "cannot be decoded"),
    "cut jpeg 2000": (encoded(PHOTO, "JPEG2000")[:200], "cannot be decoded"),
    "cut avif": (encoded(PHOTO, "AVIF")[:400], "cannot be decoded"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_and_broken_files(name):
    data, said = BOMBS[name]
    with pytest.raises(InvalidImage, match=said):
        converted(data, name)


def test_eps_is_not_run_through_ghostscript():
    data = encoded(PHOTO, "EPS")
    assert encoded_bytes(data) == data


def test_a_device_that_never_ends_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr("client.images.inputs.MAX_BYTES", 1000)
    with pytest.raises(InvalidImage, match="longer than 1,000 bytes"):
        encoded_bytes("/dev/zero")


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InvalidImage, match="pip install pillow-heif"):
        encoded_bytes(HEIC)


def test_heic_is_converted_where_pillow_heif_is():
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(PHOTO).save(file, quality=-1)
    assert opened(encoded_bytes(file.getvalue())).size == PHOTO.size


@pytest.mark.parametrize("image_format", ["BMP", "TIFF", "AVIF", "JPEG2000"])
def test_the_server_answers_as_for_the_png(server, image_format):
    data = encoded(PHOTO, image_format)
    with VisionClient(server.grpc_url) as client:
        expected = client.classify(encoded(opened(data).convert("RGB"), "PNG")).classes
        assert client.classify(data).classes == expected


@pytest.fixture
def folder(tmp_path):
    PHOTO.save(tmp_path / "a.bmp")
    PHOTO.save(tmp_path / "b.TIFF", save_all=True, append_images=[PHOTO])
    (tmp_path / "c.heic").write_bytes(HEIC)
    for name in ("notes.txt", "more.TXT", "Makefile", "film.mp4"):
        (tmp_path / name).write_text("x")
    return tmp_path


def test_a_folder_tells_what_it_skipped(server, folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert main(["classify", str(folder), "--json", "--url", server.grpc_url]) == 1
    out, errors = capsys.readouterr()
    *answers, last = map(json.loads, out.splitlines())
    assert [os.path.basename(line["image"]) for line in answers] == ["a.bmp", "b.TIFF", "c.heic"]
    assert "pillow-heif" in answers[2]["error"]["message"]
    assert last == {"skipped": {"": 1, ".mp4": 1, ".txt": 2}}
    assert "skipped 4 that are no images: 2 .txt, 1 without suffix, 1 .mp4." in errors
    assert "b.TIFF: has several pages; the first is taken" in errors
    assert "1 of 3 images failed" in errors


def test_a_folder_of_other_files_tells_so(tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert main(["classify", str(tmp_path)]) == 2
    assert "skipped 1 that are no images: 1 .txt" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_folders_that_cannot_be_read_are_counted(tmp_path):
    from collections import Counter

    (tmp_path / "closed").mkdir(mode=0)
    skipped = Counter()
    assert not list(files_in(tmp_path, skipped))
    assert skipped == {"unreadable folders": 1}
