"""Lines of text to read: rendered ones, as clean as a screen shot."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXTS = (
    "The quick brown fox jumps over the lazy dog",
    "Invoice 20931",
    "Keep walking, Victor!",
    "Sound and picture",
    "total 1284.50",
    "A casa amarela fica perto do rio",
    "no",
    "Wednesday, 14 October 1987 at a quarter past nine in the evening",
    "Reading rooms open at 8:30",
    "kiwi and yellow wax",
)


def rendered(text, size=36, ink="black", paper="white", margin=10):
    """RGB, in the font that comes with Pillow."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("RGB", (right - left + 2 * margin, bottom - top + 2 * margin), paper)
    ImageDraw.Draw(image).text((margin - left, margin - top), text, ink, font)
    return image


def encoded(image, image_format="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()
