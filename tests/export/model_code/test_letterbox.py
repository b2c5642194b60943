"""Photographs in a letterbox, and boxes on the way back."""

import numpy as np
import pytest
from PIL import Image

from export.model_code.letterbox import Letterbox


@pytest.mark.parametrize(
    ("size", "inside"),
    [
        ((100, 100), (0, 0, 64, 64)),
        ((128, 96), (0, 8, 64, 48)),
        ((96, 128), (8, 0, 48, 64)),
        ((10, 5), (0, 16, 64, 32)),
        ((1, 1), (0, 0, 64, 64)),
        ((65_535, 1), (0, 31, 64, 1)),
        ((1, 65_535), (31, 0, 1, 64)),
        ((101, 99), (0, 0, 64, 63)),
    ],
)
def test_a_photograph_lies_in_the_middle_in_proportion(size, inside):
    placed = Letterbox(64, 64).placed(Image.new("RGB", size, (200, 10, 10)))
    assert (placed.inside, placed.own) == (inside, size)
    assert (placed.pixels.dtype, placed.pixels.shape) == (np.uint8, (64, 64, 3))
    left, top, width, height = inside
    within = np.zeros((64, 64), bool)
    within[top : top + height, left : left + width] = True
    assert (placed.pixels[within] == (200, 10, 10)).all()
    assert (placed.pixels[~within] == 114).all()


def test_it_may_be_stretched_or_have_another_border():
    photograph = Image.new("L", (100, 50), 7)
    stretched = Letterbox(64, 32, is_stretched=True).placed(photograph)
    assert (stretched.inside, stretched.pixels.shape) == ((0, 0, 64, 32), (32, 64, 3))
    assert (stretched.pixels == 7).all()
    assert (Letterbox(64, 64, border=0).placed(photograph).pixels[0] == 0).all()


def test_pixels_are_pillows():
    random = np.random.default_rng(0)
    photograph = Image.fromarray(random.integers(0, 256, (300, 401, 3), np.uint8))
    placed = Letterbox(64, 64).placed(photograph)
    left, top, width, height = placed.inside
    expected = np.asarray(photograph.resize((width, height), Image.Resampling.BICUBIC))
    assert (placed.pixels[top : top + height, left : left + width] == expected).all()


@pytest.mark.parametrize("is_stretched", [False, True])
@pytest.mark.parametrize("size", [(128, 96), (500, 37), (3, 1_000), (64, 64)])
def test_boxes_come_back_where_they_were(size, is_stretched):
    placed = Letterbox(64, 64, is_stretched).placed(Image.new("RGB", size))
    left, top, width, height = placed.inside
    own = np.array([[0, 0, *size], [size[0] / 4, size[1] / 3, size[0] / 2, size[1] * 0.9]])
    scales = np.array([width / size[0], height / size[1]] * 2)
    there = (own * scales + (left, top, left, top)).astype(np.float32)
    found = placed.in_photograph(there)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-3)


def test_boxes_stay_within_the_photograph():
    placed = Letterbox(64, 64).placed(Image.new("RGB", (128, 96)))
    found = placed.in_photograph(np.array([[-5, 0, 70, 64], [0, 0, 10, 7]], np.float32))
    assert found.tolist() == [[0, 0, 128, 96], [0, 0, 20, 0]]
    assert placed.in_photograph(np.empty((0, 4), np.float32)).shape == (0, 4)
