"""Encoded images that are wrong in every way we know, and requests with them, the same for the same seed.

Small ones: how long a large image may take is bounded by its header (tests/serving/test_image_bombs.py).
"""

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

from tests.pictures import pixels
from tests.text_lines import rendered

SIDES = (1, 2, 11, 12, 13, 31, 64, 97)
LONG_SIDES = (700, 3_000, 65_535)
MODES = ("RGB", "RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "I", "F", "YCbCr")
KNOWN = ("JPEG", "PNG", "WEBP", "GIF")  # which the decoder opens
FORMATS = (*KNOWN, "TIFF", "BMP", "ICO", "PPM", "TGA", "JPEG2000")
EXTREMES = (b"\0", b"\xff", b"\x7f\xff", b"\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0")
OTHER_FILES = (
    b"", b"\0", b"text", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a",
    b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
    b"%PDF-1.7\n", b"PK\x03\x04", b"%!PS-Adobe-3.0 EPSF\n", b"P6 99999 99999 255\n", b"\x93NUMPY\x01\0v\0",
    b"\x80\x04c__builtin__\neval\n.", b"/etc/passwd", b"http://127.0.0.1/",
)  # fmt: skip
NUMBERS = (-(2**31), -2, -1, 0, 1, 998, 999, 1000, 2**31 - 1)
LABELS = (
    b"",
    b"tabby",
    b"TABBY",
    b"crane",
    b"no such",
    b"\xff\xfe",
    b"\0",
    b"a" * 10_000,
    b"%s%n",
    "größe".encode(),
)
WORDS = (
    "", "x", "nan", "inf", "-inf", "1e309", "-1", "0", "0.6 0.7 0.7", "1 1 1", "0.9 0.9 0.9", "0.6 0.7",
    "nan 1 1",
    "person", "person, cat", "15,0", ",", "cat," * 3_000, "80", "0.05", "1e-9", 100, 1_000, 10**9, -(2**40),
    "20", "12", "11.9", "400", "65535", "9" * 5_000, "true", "1\0", 0, 1, 20, -1, 2**62, True, False,
)  # fmt: skip


class Source:
    """Hostile images, and hostile requests with them."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.face = Image.fromarray(pixels("astronaut")[60:220, 150:310])
        self.sound = [self._encoded(KNOWN) for _ in range(24)]

    def image(self):
        """One image: changed in some places, cut, joined with another, random, or whole."""
        kind = self.random.random()
        if kind < 0.05:
            return self.random.choice(OTHER_FILES) + self.random.randbytes(self.random.choice((0, 0, 40)))
        if kind < 0.1:
            return self.random.randbytes(self.random.choice((1, 30, 3_000)))
        if kind < 0.2:
            return self._encoded(FORMATS)
        if kind < 0.35:  # what is asked with it may still be hostile
            return self.random.choice(self.sound)
        data = bytearray(self.random.choice(self.sound))
        for _ in range(self.random.choice((1, 1, 1, 2, 5, 30))):
            self.random.choice(self.CHANGES)(self, data)
        return bytes(data if self.random.random() < 0.5 else with_checksums(data))

    def parameters(self, model):
        """Of a request to that model: sound, hostile or none at all."""
        names = {
            "detect_faces": ("min_face_size", "thresholds"),
            "detect_objects": ("score_threshold", "iou_threshold", "classes", "max_detections"),
            "read_text": ("characters", "beam_width"),
        }
        return {
            self.random.choice((*names.get(model, ()), "x")): self.random.choice(WORDS)
            for _ in range(self.random.choice((0, 0, 1, 1, 2)))
        }

    def class_asked(self):
        """(class_id, label) of a request to explain_objects, None for what it leaves out."""
        number, label = self.random.choice(NUMBERS), self.random.choice(LABELS)
        return self.random.choice(
            ((None, None), (None, None), (number, None), (None, label), (number, label))
        )

    def _encoded(self, formats):
        """A sound file, if its format can have such pixels."""
        choose = self.random.choice
        noise = Image.frombytes("RGB", (48, 48), self.random.randbytes(48 * 48 * 3))
        picture = choose((self.face, rendered(choose(("no", "total 1284.50"))), noise))
        width, height = choose((picture.size, picture.size, (choose(SIDES), choose(SIDES))))
        if self.random.random() < 0.03:
            width, height = choose(
                ((choose(LONG_SIDES), choose((1, 2, 13))), (choose((1, 2, 13)), choose(LONG_SIDES)))
            )
        picture, file = picture.resize((width, height)), io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = choose((0, 1, 3, 5, 6, 8, 9, 65_535))
        options = {"exif": exif, "quality": choose((1, 50, 100)), "progressive": choose((True, False))}
        try:
            picture = picture.convert(choose(MODES))
            picture.save(file, choose(formats), **options)
        except (OSError, ValueError, KeyError, struct.error):
            return self._encoded(formats)
        return file.getvalue()

    def _flip(self, data):
        if data:
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)

    def _header(self, data):
        """Where sizes, depths and counts are."""
        at = self.random.randrange(min(len(data), 64) or 1)
        extreme = self.random.choice(EXTREMES)
        data[at : at + len(extreme)] = extreme

    def _overwrite(self, data):
        at = self.random.randrange(len(data) or 1)
        new = self.random.choice((*EXTREMES, self.random.randbytes(self.random.choice((1, 4, 200)))))
        data[at : at + len(new)] = new

    def _cut(self, data):
        at = self.random.randrange(len(data) or 1)
        if self.random.random() < 0.5:
            del data[at:]
        else:
            del data[at : at + self.random.choice((1, 4, 12, 500))]

    def _repeat(self, data):
        at, length = self.random.randrange(len(data) or 1), self.random.choice((1, 2, 12, 300))
        data[at:at] = data[at : at + length] * self.random.choice((1, 2, 50))

    def _join(self, data):
        other = self.random.choice(self.sound)
        at = self.random.randrange(len(data) or 1)
        data[at:] = other[self.random.randrange(len(other)) :]

    CHANGES = (_flip, _flip, _header, _overwrite, _cut, _repeat, _join)


def with_checksums(data):
    """Where it is a PNG, so many chunks as can be read get the right one: else few changes were ever seen."""
    data = bytearray(data)
    at = 8
    while data[:4] == b"\x89PNG" and at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        end = at + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data


def tensors(library, images, class_id=None, label=None):
    """Of a request with these images; class_id and label are of all of them."""
    arrays = {"encoded_image": ("BYTES", np.array([[image] for image in images], object))}
    if class_id is not None:
        arrays["class_id"] = ("INT32", np.full((len(images), 1), class_id, np.int32))
    if label is not None:
        arrays["label"] = ("BYTES", np.array([[label]] * len(images), object))
    found = []
    for name, (datatype, array) in arrays.items():
        found.append(library.InferInput(name, list(array.shape), datatype))
        found[-1].set_data_from_numpy(array)
    return found
