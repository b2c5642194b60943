"""A face turned upright, at the place and size where the model that describes faces expects it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InvalidImage
from .fitting import opened
from .inputs import ImageLike

__all__ = ["aligned", "similarity"]

# Where the eyes, the nose and the corners of the mouth lie in the mean face of dlib's shape predictor (King
# 2009), whose width from jaw to jaw is 1.
MEAN_FACE = np.array(
    [(0.2255, 0.2160), (0.7548, 0.2160), (0.4901, 0.5156), (0.2541, 0.7802), (0.7261, 0.7802)]
)
PADDING = 0.35  # of that width, on each side; from 0.25 to 0.5 the labelled pairs part (docs/decisions/0032)


def aligned(image: ImageLike, landmarks: Sequence[tuple[float, float]], side: int) -> NDArray[np.uint8]:
    """UINT8 [side, side, 3]: the face with its five landmarks, in pixels, where the mean face has them.

    Turned, moved and scaled, but not bent; beyond the photograph it is black. Raises InvalidImage for what is
    no image, and for landmarks that lie in one point.
    """
    photograph = opened(image).convert("RGB")
    target = (MEAN_FACE + PADDING) / (1 + 2 * PADDING) * side
    matrix = similarity(target, np.asarray(landmarks, np.float64))
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 1e-6 < scale < 1e6:
        raise InvalidImage("the landmarks of its face lie in one point.")
    if (factor := int(scale)) > 1:  # else every factor-th pixel alone would be taken
        reach = np.abs(matrix[:, :2]).sum(1) * side
        centre = matrix @ [side / 2, side / 2, 1]
        left, top = (int(max(0, low)) for low in np.floor(centre - reach))
        right, bottom = (
            int(min(most, high)) for most, high in zip(photograph.size, np.ceil(centre + reach), strict=True)
        )
        if left < right and top < bottom:
            photograph = photograph.crop((left, top, right, bottom)).reduce(factor)
            matrix = (matrix - [[0, 0, left], [0, 0, top]]) / factor
    coefficients = tuple(float(number) for number in matrix.ravel())
    face = photograph.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(face)


def similarity(points: NDArray[np.float64], images: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 2 x 3 matrix that turns, scales and moves `points` [n, 2] to lie nearest to `images` [n, 2].

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", in the
    plane, where it is a multiplication of complex numbers; nothing is mirrored.
    """
    centre, image_centre = points.mean(0), images.mean(0)
    here, there = ((array - middle) @ [1, 1j] for array, middle in ((points, centre), (images, image_centre)))
    factor = np.vdot(here, there) / np.vdot(here, here)
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([turn, image_centre - turn @ centre])
