"""Photographs made worse: by how much, the same each time, and whatever their size and mode."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from client.images.corruptions import CORRUPTIONS, STRENGTHS, corrupted, reduced
from client.images.fitting import opened
from tests.pictures import pixels

PHOTOGRAPHS = {name: reduced(opened(pixels(name))) for name in ("chelsea", "coffee", "astronaut", "camera")}
DRAWN_BY_LOT = {"noise", "rotation", "occlusion"}
GREY = Image.new("RGB", (256, 256), (100, 100, 100))


def array(image):
    return np.asarray(image, float)


def made(image, name):
    return [array(corrupted(image, name, strength, [1, 2])) for strength in STRENGTHS]


def test_strengths_are_those_of_the_sources():
    levels = {name: found.levels for name, found in CORRUPTIONS.items()}
    assert levels == {
        "blur": (1, 2, 3, 4, 6),  # ImageNet-C: gaussian_blur, gaussian_noise, jpeg_compression, brightness
        "noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "jpeg": (25, 18, 15, 10, 7),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "rotation": (6, 12, 18, 24, 30),  # in equal steps to the largest of its source
        "occlusion": (0.08, 0.16, 0.24, 0.32, 0.4),
    }


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_a_stronger_one_is_further_from_the_photograph(name, photograph):
    image = PHOTOGRAPHS[photograph]
    if name == "rotation":  # details that are smaller than the way they move differ no more further on
        image = image.filter(ImageFilter.GaussianBlur(40))
    distances = [np.abs(worse - array(image)).mean() for worse in made(image, name)]
    assert distances[0] > 1
    assert (np.diff(distances) > 0).all(), distances


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (256, 2048), (341, 256)])
def test_size_and_mode_are_kept(name, mode, size):
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise).convert(mode)
    before = image.tobytes()
    for strength in STRENGTHS:
        worse = corrupted(image, name, strength, [1])
        assert (worse.size, worse.mode) == (size, mode)
    assert image.tobytes() == before


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_one_seed_gives_one_picture(name):
    image = PHOTOGRAPHS["chelsea"]
    first, again = (corrupted(image, name, 3, [5, 6]).tobytes() for _ in range(2))
    assert first == again
    others = {corrupted(image, name, 3, [5, seed]).tobytes() for seed in range(7, 12)}
    assert (others != {first}) == (name in DRAWN_BY_LOT)


def test_a_blur_has_its_sigma():
    point = Image.new("L", (101, 101))
    point.paste(255, (40, 40, 61, 61))
    along = np.arange(101) - 50
    wide = (21**2 - 1) / 12  # the square's own variance
    for sigma, blurred in zip(CORRUPTIONS["blur"].levels, made(point, "blur"), strict=True):
        weights = blurred.sum(0) / blurred.sum()
        assert (weights * along**2).sum() - wide == pytest.approx(sigma**2, rel=0.1)


def test_noise_has_its_sigma_and_each_channel_its_own():
    for sigma, noisy in zip(CORRUPTIONS["noise"].levels[:2], made(GREY, "noise"), strict=False):
        assert (noisy - 100).mean() == pytest.approx(0, abs=0.5)
        assert noisy.std() / 255 == pytest.approx(sigma, rel=0.02)
        assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.02


def test_jpeg_has_its_quality():
    for quality, worse in zip(CORRUPTIONS["jpeg"].levels, made(PHOTOGRAPHS["coffee"], "jpeg"), strict=True):
        file = io.BytesIO()
        PHOTOGRAPHS["coffee"].save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(worse, array(Image.open(file)))


def test_brightness_adds_to_the_value_alone():
    for added, brighter in zip(CORRUPTIONS["brightness"].levels, made(GREY, "brightness"), strict=True):
        np.testing.assert_allclose(brighter, 100 + 255 * added, atol=1)
    red = Image.new("RGB", (4, 4), (100, 50, 50))
    for brighter in made(red, "brightness"):
        assert brighter[0, 0, 0] / brighter[0, 0, 1] == pytest.approx(2, rel=0.03)


def test_a_rotation_has_its_angle_to_either_side():
    turned = set()
    for seed in range(6):
        for degrees, strength in zip(CORRUPTIONS["rotation"].levels, STRENGTHS, strict=True):
            worse = corrupted(PHOTOGRAPHS["chelsea"], "rotation", strength, [seed]).tobytes()
            both = {
                sign: PHOTOGRAPHS["chelsea"].rotate(sign * degrees, Image.Resampling.BICUBIC).tobytes()
                for sign in (-1, 1)
            }
            turned |= {sign for sign, one in both.items() if one == worse}
            assert worse in both.values()
    assert turned == {-1, 1}


@pytest.mark.parametrize("size", [(256, 256), (400, 256), (256, 700)])
def test_a_square_of_the_middle_is_covered_and_the_stronger_covers_the_weaker(size):
    white = Image.new("L", size, 255)
    left, top = ((side - 256) // 2 for side in size)
    for seed in range(20):
        before = np.zeros(white.size[::-1], bool)
        for share, strength in zip(CORRUPTIONS["occlusion"].levels, STRENGTHS, strict=True):
            covered = array(corrupted(white, "occlusion", strength, [seed])) != 255
            assert covered.sum() / 256**2 == pytest.approx(share, abs=0.01)
            assert covered[top : top + 256, left : left + 256].sum() == covered.sum()
            assert covered[before].all()
            before = covered


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((6000, 4000), (384, 256)),
        ((300, 400), (256, 341)),
        ((256, 300), (256, 300)),
        ((1, 1), (1, 1)),
        ((100, 2000), (100, 2000)),
        ((60000, 1), (2048, 1)),
        ((400, 8000), (102, 2048)),
    ],
)
def test_photographs_are_made_small_and_never_enlarged(size, expected):
    assert reduced(Image.new("L", size)).size == expected


def file_of(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def files():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    photograph = Image.fromarray(pixels("coffee"))
    yield "grey", file_of(photograph.convert("L"), "PNG"), "L", (600, 400)
    yield "16 bits", file_of(Image.new("I;16", (600, 400), 40000), "PNG"), "L", (600, 400)
    yield "rgba", file_of(photograph.convert("RGBA"), "PNG"), "RGB", (600, 400)
    yield "palette", file_of(photograph.convert("P"), "GIF"), "RGB", (600, 400)
    yield "cmyk", file_of(photograph.convert("CMYK"), "JPEG"), "RGB", (600, 400)
    yield "turned", file_of(photograph, "JPEG", exif=exif), "RGB", (400, 600)
    yield "bmp", file_of(photograph, "BMP"), "RGB", (600, 400)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("data", "mode", "size"), [pytest.param(*f[1:], id=f[0]) for f in files()])
def test_files_of_all_kinds_are_made_worse_upright(name, data, mode, size):
    image = opened(data)
    assert (image.mode, image.size) == (mode, size)
    small = reduced(image)
    worse = corrupted(small, name, 5, [1])
    assert (worse.mode, worse.size) == (mode, small.size)
    assert (worse.width > worse.height) == (size[0] > size[1])
