"""The photographs as arrays, by name."""

import numpy as np
from PIL import Image

from export.sources.photographs import photographs


def pixels(name: str) -> np.ndarray:
    """UINT8 [height, width, 3], or [height, width] for a grey one."""
    return np.asarray(Image.open(next(photo.path for photo in photographs() if photo.name == name)))
