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


def rendered_page(lines, size=28, leading=1.4, ink="black", paper="white", margin=30):
    """RGB; the lines below one another."""
    font = ImageFont.load_default(size)
    width = max(round(font.getlength(line)) for line in lines)
    pitch = round(size * leading)
    image = Image.new("RGB", (width + 2 * margin, pitch * len(lines) + 2 * margin), paper)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * pitch), line, ink, font)
    return image


def on_paper(image, width, height):
    """RGB; the image at the upper left of a white sheet."""
    paper = Image.new("RGB", (width, height), "white")
    paper.paste(image, (width // 20, height // 20))
    return paper


def beside(*images, gap=40, paper="white"):
    """One image of several, as columns."""
    whole = Image.new(
        "RGB",
        (sum(image.width + gap for image in images) - gap, max(image.height for image in images)),
        paper,
    )
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + gap
    return whole
