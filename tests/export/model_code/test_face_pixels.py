"""Pixels for the networks that find faces, against PyTorch's own averaging and the network itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from export.catalogue import CATALOGUE
from export.model_code import face_pixels
from export.sources.weights import choose_weights, filled_network
from tests.pictures import pixels

PHOTO = pixels("astronaut")


def averaged(array, rows, columns):
    planes = torch.from_numpy(np.array(array)).permute(2, 0, 1)[None].float()
    return F.interpolate(planes, size=(rows, columns), mode="area")[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("shape", [(97, 131), (12, 300), (300, 12), (64, 64), (1, 1)])
@pytest.mark.parametrize("scale", [1.0, 0.6, 0.4254, 0.0713])
def test_levels_are_means_of_areas(shape, scale):
    image = PHOTO[: shape[0], : shape[1]]
    level = face_pixels.Areas(image).level(scale)
    expected = averaged(image, int(shape[0] * scale + 1), int(shape[1] * scale + 1))
    np.testing.assert_allclose(level, expected, atol=1e-4)


def test_crops_are_means_of_areas_and_stop_at_the_border():
    """Boxes count pixels from 1, fractions are cut off, and small ones are made larger."""
    boxes = np.array(
        [
            [1, 1, 512, 512],
            [10.9, 20.2, 61.7, 90.9],
            [-7.5, -30, 40, 20],
            [500, 480, 600, 590],
            [33, 44, 36, 45],
        ],
        np.float32,
    )
    parts = [PHOTO, PHOTO[19:90, 9:61], PHOTO[0:20, 0:40], PHOTO[479:512, 499:512], PHOTO[43:45, 32:36]]
    for size in (24, 48):
        crops = face_pixels.Areas(PHOTO).crops(boxes, size)
        for crop, part in zip(crops, parts, strict=True):
            np.testing.assert_allclose(crop, averaged(part, size, size), atol=1e-4)
    assert face_pixels.Areas(PHOTO).crops(boxes[:0], 24).shape == (0, 24, 24, 3)


def test_boxes_beside_the_photograph_have_no_pixels_of_it():
    boxes = [
        [-50, 5, -1, 40],
        [513, 5, 520, 40],
        [5, 600, 40, 640],
        [512, 512, 900, 900],
        [5, 5, 4.9, 9],
        [5, 5, 4, 9],
    ]
    touched = face_pixels.Areas(PHOTO).touched(np.array(boxes, np.float32))
    assert touched.tolist() == [False, False, False, True, False, False]


def test_sums_of_a_white_photograph_do_not_run_over():
    """Its sums pass 2**32; what is taken from them is right all the same."""
    areas = face_pixels.Areas(np.full((4200, 4200, 3), 255, np.uint8))
    assert areas.sums[0, -1, -1] != 4200 * 4200 * 255
    assert (areas.level(0.003) == 255).all()
    assert (areas.crops(np.array([[1000, 1000, 4200, 4200]], np.float32), 24) == 255).all()


@pytest.mark.parametrize("size", [(512, 512), (11, 600), (1440, 1920), (12, 12)])
def test_the_pyramid_ends_where_a_window_fits(size):
    found = face_pixels.scales(*size, 20)
    assert found[:1] == ([12 / 20] if min(size) * 0.6 >= 12 else [])
    assert all(min(size) * scale >= 12 for scale in found)
    assert not found or min(size) * found[-1] * 0.709 < 12
    ratios = np.array(found[1:]) / np.array(found[:-1])
    np.testing.assert_allclose(ratios, 0.709)


@pytest.mark.parametrize("most", [16, 17, 31, 64])
def test_tiles_answer_for_each_window_once(most):
    for size in range(12, 400):
        tile, parts = face_pixels.tiles(size, most)
        assert 12 <= tile <= max(most, 12)
        assert (tile - size) % 2 == 0
        assert [first for first, _ in parts] == [0, *[last for _, last in parts[:-1]]]
        assert parts[-1][1] == (size - 9) // 2
        assert 2 * parts[-1][0] + tile == size
        assert all(0 < last - first <= (tile - 10) // 2 for first, last in parts[:-1])


@pytest.fixture(scope="module")
def network():
    spec = CATALOGUE["face_pnet"]
    return filled_network(spec, choose_weights(spec))


@pytest.mark.parametrize("shape", [(73, 90), (90, 73), (64, 41)])
def test_tiles_answer_as_the_whole(network, shape):
    """Odd and even sizes: the network joins pixels in pairs, the last of which may be one alone."""
    level = torch.from_numpy(PHOTO[60 : 60 + shape[0], 180 : 180 + shape[1]].astype(np.float32))
    with torch.no_grad():
        whole = network(level[None])
    height, rows = face_pixels.tiles(shape[0], 40)
    width, columns = face_pixels.tiles(shape[1], 41)
    assert len(rows) > 1 or len(columns) > 1
    for top, bottom in rows:
        for left, right in columns:
            with torch.no_grad():
                answer = network(level[None, 2 * top : 2 * top + height, 2 * left : 2 * left + width])
            for ours, theirs in zip(answer, whole, strict=True):
                part = ours[:, : bottom - top, : right - left]
                np.testing.assert_allclose(part, theirs[:, top:bottom, left:right], atol=1e-5)


@pytest.mark.parametrize(("height", "width", "left_out"), [(3000, 4100, 0), (4000, 6000, 1), (6000, 6000, 2)])
def test_sizes_of_too_many_pixels_are_left_out(height, width, left_out):
    """The others are those of a photograph of any size."""
    found = face_pixels.scales(height, width, 20)
    whole = [0.6]
    while min(height, width) * whole[-1] * 0.709 >= 12:
        whole.append(whole[-1] * 0.709)
    assert found == pytest.approx(whole[left_out:])
    assert height * width * found[0] ** 2 <= 4_500_000
