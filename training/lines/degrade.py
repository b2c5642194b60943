"""What happens to a line on its way to the camera: two named levels.

"clean"      a screen shot or a good scan: dark ink on light paper, sharp, hardly tilted
"degraded"   a phone's photograph, a fax, a poor copy: some of slant, tilt, perspective, heavier or lighter
             ink, underlining, uneven light, stains, weak contrast, low resolution, blur, motion, noise,
             specks, JPEG artefacts
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["LEVELS", "degrade", "thinned"]

LEVELS = ("clean", "degraded")
FEW_ROWS = (12, 24)  # pixels from the highest point of the letters to the lowest, at low resolution


def degrade(ink: Image.Image, level: str, random: np.random.Generator) -> Image.Image:
    """Ink ("L", 255 where there is ink, with margins) -> what a camera sees of it, dark on light, "L"."""
    if level == "clean":
        paper, dark = random.uniform(225, 255), random.uniform(0, 70)
        return ink.point([round(paper - (paper - dark) * i / 255) for i in range(256)])
    if random.random() < 0.6:
        ink = _warp(ink, random)
    if random.random() < 0.3:
        ink = _ink_weight(ink, random)
    if random.random() < 0.05:
        ink = _underlined(ink, random)
    box = ink.getbbox() or (0, 0, *ink.size)
    image = Image.fromarray(_exposed(np.asarray(ink, np.float32) / 255, random))
    letters: float = box[3] - box[1]  # their height in pixels, from here on
    if random.random() < 0.4 and letters > (rows := random.uniform(*FEW_ROWS)):
        size = max(8, round(image.width * rows / letters)), round(image.height * rows / letters)
        resample = (Image.Resampling.BILINEAR, Image.Resampling.BOX, Image.Resampling.BICUBIC)
        image, letters = image.resize(size, resample[random.integers(3)]), rows
    if random.random() < 0.45:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.2, 1.2) * letters / 32))
    elif random.random() < 0.15:  # motion, along or across
        radius = random.uniform(0.3, 1.5) * letters / 32
        image = image.filter(ImageFilter.BoxBlur((radius, 0) if random.random() < 0.6 else (0, radius)))
    if random.random() < 0.5:
        image = _noise(image, random, specks=letters > 18)
    if random.random() < 0.4:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=int(random.integers(15 if letters > 24 else 30, 80)))
        image = Image.open(packed)
        image.load()
    return image


def thinned(ink: Image.Image, random: np.random.Generator) -> Image.Image:
    """Ink whose strokes are weaker: the thin ones of a letter nearly vanish."""
    most = 0.7 if ink.height > 30 else 0.4
    weaker = Image.blend(ink, ink.filter(ImageFilter.MinFilter(3)), float(random.uniform(0.1, most)))
    faint = random.uniform(1, 1.5)  # grey edges and hairlines lose more than the middle of a stroke
    return weaker.point([round(255 * (i / 255) ** faint) for i in range(256)])


def _warp(ink: Image.Image, random: np.random.Generator) -> Image.Image:
    """Tilt, slant by up to 15 degrees, and perspective, in one resampling; the canvas grows to hold it."""
    width, height = ink.size
    most_tilt = min(0.06, 0.4 * height / width)  # 3.4 degrees, or four tenths of the line's height in all
    tilt = float(np.clip(random.normal(0, 0.02), -most_tilt, most_tilt))
    slant = random.uniform(-0.27, 0.27) if random.random() < 0.4 else 0.0
    across = random.uniform(-0.1, 0.1) / width if random.random() < 0.3 else 0.0
    out_width = round(width * (1 + abs(across) * width / 2) + abs(slant) * height)
    out_height = round(height * (1 + abs(across) * width / 2) + abs(tilt) * width)
    # from output to input, around both middles: (x + slant y, tilt x + y) / (1 + across x)
    around = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1]])
    there = np.array([[1, slant, 0], [tilt, 1, 0], [across, 0, 1]])
    back = np.array([[1, 0, -out_width / 2], [0, 1, -out_height / 2], [0, 0, 1]])
    matrix = around @ there @ back
    coefficients = (matrix / matrix[2, 2]).ravel()[:8].tolist()
    return ink.transform(
        (out_width, out_height), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )


def _ink_weight(ink: Image.Image, random: np.random.Generator) -> Image.Image:
    """Strokes up to one pixel thicker or thinner."""
    grown = ink.filter(ImageFilter.MaxFilter(3) if random.random() < 0.6 else ImageFilter.MinFilter(3))
    return Image.blend(ink, grown, float(random.uniform(0.2, 0.8)))


def _underlined(ink: Image.Image, random: np.random.Generator) -> Image.Image:
    """A rule below the text, or through its descenders."""
    pixels = np.array(ink)
    rows = np.flatnonzero(pixels.any(1))
    thickness = max(1, len(rows) // 24)
    top = min(rows[-1] + 1 - round(random.uniform(-0.1, 0.12) * len(rows)), len(pixels) - thickness)
    pixels[top : top + thickness] = 255
    return Image.fromarray(pixels)


def _exposed(ink: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Paper and ink of some grey each, at least 60 apart, under light that falls off: UINT8."""
    paper = random.uniform(120, 255)
    dark = random.uniform(0, max(1.0, paper - 75))
    dark = min(dark, random.uniform(0, 160))
    height, width = ink.shape
    grey = paper + (dark - paper) * ink
    if random.random() < 0.4:
        x = np.linspace(-1, 1, width, dtype=np.float32)
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        fall = random.uniform(0, 0.3)
        light = random.uniform(-1, 1) * x + random.uniform(-0.5, 0.5) * y + random.uniform(-1, 1) * (x * x)
        grey = grey * (1 + fall * (light - 0.2))
    if random.random() < 0.2:  # stains: slow noise
        coarse = random.normal(0, random.uniform(2, 9), (2 + height // 16, 2 + width // 16))
        stains = Image.fromarray(coarse.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        grey = grey + np.asarray(stains)
    return np.clip(grey, 0, 255).astype(np.uint8)


def _noise(image: Image.Image, random: np.random.Generator, specks: bool) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    noise = random.standard_normal(pixels.shape, np.float32) * random.uniform(2, 16)
    pixels = pixels + noise
    if specks and random.random() < 0.15:
        chance, share = random.random(pixels.shape, np.float32), random.uniform(0.001, 0.012)
        pixels = np.where(chance < share, 0, np.where(chance > 1 - share, 255, pixels))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
