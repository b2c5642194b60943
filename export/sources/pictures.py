"""The pictures that a quantisation is calibrated with, and those that it is judged by.

Ranges come from scikit-image's photographs and crops of them. Answers are compared on foolbox's labelled
photographs and on crops of them, which no calibration and no search sees.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from export.common.errors import SpecError
from export.model_code.letterbox import Letterbox
from export.sources.photographs import Photograph, photographs
from export.sources.samples import photograph_pixels
from export.sources.specs.spec import Evaluation, Sample

__all__ = [
    "best_of_places",
    "detector_calibration",
    "detector_evaluation",
    "folder_pixels",
    "hard_crops",
    "photograph_calibration",
    "photograph_evaluation",
]

SIZE = 224  # pixels of a side
CALIBRATION_CROPS, EVALUATION_CROPS, HARD_CROPS = 280, 280, 100
DETECTOR_CROPS = 140  # each; they are larger, and take longer
SEEDS = {"calibration": 1, "evaluation": 2, "hard": 3}

# Of a crop: its share of the photograph's area, its aspect ratio; brightness and contrast as factors.
AREA, ASPECT, BRIGHTNESS, CONTRAST = (0.15, 1.0), (3 / 4, 4 / 3), (0.6, 1.4), (0.7, 1.3)
TRIES = 20  # for a crop that fits

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def photograph_calibration() -> list[Sample]:
    """14 photographs of scikit-image and 280 crops of them: UINT8 [224, 224, 3]."""
    _, unlabelled = _split()
    return _whole(unlabelled) + _crops(_images(unlabelled), CALIBRATION_CROPS, SEEDS["calibration"])


def photograph_evaluation() -> Evaluation:
    """20 labelled photographs of foolbox, then 280 crops of them."""
    labelled, _ = _split()
    crops = _crops(_images(labelled), EVALUATION_CROPS, SEEDS["evaluation"])
    classes = tuple(photo.class_index for photo in labelled if photo.class_index is not None)
    return Evaluation(_whole(labelled) + crops, classes)


def detector_calibration(side: int) -> Callable[[], list[Sample]]:
    """Makes scikit-image's photographs and 140 crops of them, as UINT8 [side, side, 3]."""

    def calibration() -> list[Sample]:
        _, unlabelled = _split()
        crops = _crops(_images(unlabelled), DETECTOR_CROPS, SEEDS["calibration"], (side, side))
        return _letterboxed(unlabelled, side) + crops

    return calibration


def detector_evaluation(side: int) -> Callable[[], Evaluation]:
    """Makes foolbox's photographs, whose classes are no detector's, and 140 crops of them."""

    def evaluation() -> Evaluation:
        labelled, _ = _split()
        crops = _crops(_images(labelled), DETECTOR_CROPS, SEEDS["evaluation"], (side, side))
        return Evaluation(_letterboxed(labelled, side) + crops)

    return evaluation


def best_of_places(answers: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """What a detector's answers are judged by: of the best place of each class its share in them all."""
    best: NDArray[Any] = answers["scores"].max(1)
    return best / best.sum(1, keepdims=True)


def hard_crops() -> list[Sample]:
    """100 other crops of the photographs that are calibrated with: textures, stars, grey pictures, on which
    the FP32 networks themselves are unsure. Nothing is judged by them; docs/decisions/0011 has figures."""
    return _crops(_images(_split()[1]), HARD_CROPS, SEEDS["hard"])


def folder_pixels(folder: Path, size: tuple[int, int], crops: int = CALIBRATION_CROPS) -> list[Sample]:
    """Crops of a folder's own pictures, as UINT8 [height, width, 3]; `size` is (height, width).

    Raises `SpecError` when it holds none that can be read.
    """
    images = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        try:
            with Image.open(path) as image:
                images.append(ImageOps.exif_transpose(image).convert("RGB"))
        except OSError as error:
            raise SpecError(f"{path} is no picture that can be read ({error}); remove it") from error
    if not images:
        raise SpecError(
            f"{folder} holds no pictures ({', '.join(SUFFIXES)}): a few hundred like those to come are best"
        )
    return _crops(images, max(crops, len(images)), SEEDS["calibration"], size)


def _split() -> tuple[list[Photograph], list[Photograph]]:
    """foolbox's, which have labels and are judged by; scikit-image's, which are calibrated with."""
    found = photographs()
    labelled = [photograph for photograph in found if photograph.name.startswith("imagenet_")]
    return labelled, [photograph for photograph in found if photograph not in labelled]


def _whole(chosen: Sequence[Photograph]) -> list[Sample]:
    pixels = dict(zip([photograph.name for photograph in photographs()], photograph_pixels(), strict=True))
    return [pixels[photograph.name] for photograph in chosen]


def _letterboxed(chosen: Sequence[Photograph], side: int) -> list[Sample]:
    return [(Letterbox(side, side).placed(image).pixels,) for image in _images(chosen)]


def _images(chosen: Sequence[Photograph]) -> list[Image.Image]:
    return [Image.open(photograph.path).convert("RGB") for photograph in chosen]


def _crops(
    images: list[Image.Image], count: int, seed: int, size: tuple[int, int] = (SIZE, SIZE)
) -> list[Sample]:
    """Random crops of each in turn, some mirrored, in other light; the same ones at every call."""
    random = np.random.default_rng(seed)
    height, width = size
    samples: list[Sample] = []
    for number in range(count):
        image = images[number % len(images)]
        crop = image.crop(_box(image.size, random)).resize((width, height), Image.Resampling.BICUBIC)
        if random.random() < 0.5:
            crop = ImageOps.mirror(crop)
        crop = ImageEnhance.Brightness(crop).enhance(random.uniform(*BRIGHTNESS))
        crop = ImageEnhance.Contrast(crop).enhance(random.uniform(*CONTRAST))
        samples.append((np.asarray(crop),))
    return samples


def _box(size: tuple[int, int], random: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random part; the largest square if no shape fits."""
    width, height = size
    for _ in range(TRIES):
        area = width * height * random.uniform(*AREA)
        aspect = np.exp(random.uniform(*np.log(ASPECT)))
        box_width, box_height = int((area * aspect) ** 0.5), int((area / aspect) ** 0.5)
        if 0 < box_width <= width and 0 < box_height <= height:
            break
    else:
        box_width = box_height = min(width, height)
    left = int(random.integers(0, width - box_width + 1))
    top = int(random.integers(0, height - box_height + 1))
    return left, top, left + box_width, top + box_height
