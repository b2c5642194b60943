"""Real photographs with known content, for verification, tests, the demo and load tests.

Twenty ImageNet photographs from `foolbox` (the class is in the file name) and those of scikit-image.
They are good for parity and for showing; there are too few to measure a model's accuracy.
"""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from export.common.packages import FOOLBOX, SCIKIT_IMAGE, extract, fetch

__all__ = ["Photograph", "photographs"]

FOOLBOX_NAME = re.compile(r"foolbox/data/(imagenet_\d+_(\d+))\.jpg")

# scikit-image's, and the ImageNet class where the picture shows one
SCIKIT_IMAGE_FILES = {
    "chelsea.png": 281,  # a tabby cat, of which ImageNet has several kinds
    "coffee.png": 967,  # an espresso in its cup
    "rocket.jpg": 657,  # a missile, ImageNet's nearest word
    "astronaut.png": None,
    "brick.png": None,
    "camera.png": None,  # grey
    "clock_motion.png": None,
    "coins.png": None,
    "grass.png": None,
    "gravel.png": None,
    "hubble_deep_field.jpg": None,
    "moon.png": None,
    "motorcycle_left.png": None,
    "motorcycle_right.png": None,
}


@dataclass(frozen=True)
class Photograph:
    """One encoded photograph (JPEG or PNG); `class_index` is its ImageNet class, 0 to 999, if it has one."""

    name: str
    path: Path
    class_index: int | None


def photographs() -> list[Photograph]:
    """All of them, foolbox's 20 first. Downloads at the first call; raises `PackageError` if it cannot."""
    with zipfile.ZipFile(fetch(FOOLBOX)) as archive:
        found = sorted(filter(None, map(FOOLBOX_NAME.fullmatch, archive.namelist())), key=lambda m: m[1])
    labelled = [Photograph(match[1], extract(FOOLBOX, match[0]), int(match[2])) for match in found]
    others = [
        Photograph(name.rpartition(".")[0], extract(SCIKIT_IMAGE, f"skimage/data/{name}"), class_index)
        for name, class_index in SCIKIT_IMAGE_FILES.items()
    ]
    return labelled + others
