"""Faces turned upright by their landmarks."""

import numpy as np
import pytest
from PIL import Image

from client import InvalidImage
from client.images.alignment import MEAN_FACE, PADDING, aligned, similarity

SIDE = 224
TARGET = (MEAN_FACE + PADDING) / (1 + 2 * PADDING) * SIDE


def turned(points, degrees, scale, shift):
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + shift


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"), [(0, 1, (0, 0)), (30, 2.5, (40, -3)), (-170, 0.2, (9, 9))]
)
def test_a_similarity_is_found_again(degrees, scale, shift):
    matrix = similarity(TARGET, turned(TARGET, degrees, scale, shift))
    np.testing.assert_allclose(TARGET @ matrix[:, :2].T + matrix[:, 2], turned(TARGET, degrees, scale, shift))


def test_of_points_that_fit_no_similarity_the_nearest_is_taken():
    """Any other turn, scale and shift has a larger sum of squares."""
    points = turned(TARGET, 10, 1.5, (5, 5)) + np.random.default_rng(0).normal(0, 4, TARGET.shape)
    best = similarity(TARGET, points)

    def error(matrix):
        return np.square(TARGET @ matrix[:, :2].T + matrix[:, 2] - points).sum()

    for change in (0.01, -0.01):
        for turn in (np.array([[1, 0], [0, 1]]), np.array([[0, -1], [1, 0]])):
            assert error(best + np.column_stack([change * turn, [0, 0]])) > error(best)
        assert error(best + np.array([[0, 0, change], [0, 0, 0]])) > error(best)


@pytest.mark.parametrize("degrees", [0, 25, 90, 180])
@pytest.mark.parametrize("scale", [0.7, 1.0, 3.4])
def test_landmarks_come_to_lie_where_the_mean_face_has_them(degrees, scale):
    """Dots in a large picture, turned and scaled, are dots in the same places of the face."""
    points = turned(TARGET - SIDE / 2, degrees, scale, (600, 500))
    rows, columns = np.mgrid[0:1000, 0:1200]
    picture = np.zeros((1000, 1200, 3), np.uint8)
    for x, y in points:
        picture[np.hypot(columns + 0.5 - x, rows + 0.5 - y) < 5 * scale] = 255
    face = aligned(picture, points.tolist(), SIDE)
    assert face.shape == (SIDE, SIDE, 3)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    for x, y in TARGET:
        near = np.hypot(columns + 0.5 - x, rows + 0.5 - y) < 12
        weights = face[:, :, 0] * near
        centre = [(weights * (grid + 0.5)).sum() / weights.sum() for grid in (columns, rows)]
        np.testing.assert_allclose(centre, (x, y), atol=0.6)


def test_a_face_at_the_border_is_black_beyond_it():
    points = turned(TARGET - SIDE / 2, 0, 1, (10, 10))
    face = aligned(np.full((100, 100, 3), 200, np.uint8), points.tolist(), SIDE)
    assert (face[: SIDE // 2 - 12, :] == 0).all()
    assert (face[SIDE // 2 : SIDE // 2 + 40, SIDE // 2 : SIDE // 2 + 40] == 200).all()


def test_an_image_with_an_orientation_is_turned_upright_first(tmp_path):
    points = turned(TARGET - SIDE / 2, 5, 1, (150, 130))
    picture = np.random.default_rng(0).integers(0, 256, (260, 300, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(picture).transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(
        aligned(tmp_path / "turned.png", points.tolist(), SIDE), aligned(picture, points.tolist(), SIDE)
    )


def test_landmarks_in_one_point_are_refused():
    with pytest.raises(InvalidImage, match="lie in one point"):
        aligned(np.zeros((50, 50, 3), np.uint8), [(20, 20)] * 5, SIDE)
