"""The pixels that the text networks read: the same 32 rows whatever the paper, the ink and the margins."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from export.model_code import line_image
from tests.text_lines import rendered

normalize = line_image.normalize_line

TEXT = "Keep walking, Victor! 12"


def ink(pixels):
    """Cut to the ink and blurred, at one size."""
    dark = pixels < 128
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    cut = Image.fromarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return np.asarray(cut.resize((400, 32)).filter(ImageFilter.GaussianBlur(1.5)), float)


def likeness(pixels, others):
    """Correlation of what is written, 1 for the same; frames differ by pixels of a small copy."""
    assert abs(pixels.shape[1] / others.shape[1] - 1) < 0.15
    return np.corrcoef(ink(pixels).ravel(), ink(others).ravel())[0, 1]


@pytest.fixture(scope="module")
def plain():
    return normalize(rendered(TEXT))


def test_a_plain_line_is_black_on_white_and_fills_the_rows(plain):
    assert (plain.shape[0], plain.dtype) == (32, np.uint8)
    assert np.median(plain) == 255
    assert (plain < 40).mean() > 0.05
    assert (plain[:2] > 128).all()  # the margin
    rows = np.flatnonzero((plain < 128).any(1))
    assert rows[0] <= 4
    assert rows[-1] >= 27


@pytest.mark.parametrize("margin", [2, 25, 70, 300])
def test_margins_do_not_matter(plain, margin):
    assert likeness(plain, normalize(rendered(TEXT, margin=margin))) > 0.9


@pytest.mark.parametrize("size", [20, 72, 200])
def test_sizes_do_not_matter(plain, size):
    assert likeness(plain, normalize(rendered(TEXT, size))) > 0.8


COLOURS = [
    ("white", "black"),
    ("#eee", "#444"),
    ("#555", "#aaa"),
    ("yellow", "navy"),
    ("navy", "yellow"),
    ("#c00000", "#006400"),  # of one luminance
    ("#4040ff", "#8a3a00"),
    ("#b0b0b0", "#d0d0d0"),  # of little contrast
]


@pytest.mark.parametrize(("ink", "paper"), COLOURS)
@pytest.mark.parametrize("margin", [1, 10])
def test_every_ink_on_every_paper_becomes_dark_on_light(ink, paper, margin):
    image = rendered(TEXT, ink=ink, paper=paper, margin=margin)
    assert likeness(normalize(rendered(TEXT, margin=margin)), normalize(image)) > 0.95


@pytest.mark.parametrize("text", ["HEM", "WIDE", "Illi", "nose", "8", "..."])
@pytest.mark.parametrize("margin", [1, 6, 30])
def test_light_on_dark_is_seen_in_short_text_too(text, margin):
    light = normalize(rendered(text, ink="white", paper="black", margin=margin))
    np.testing.assert_allclose(light.astype(int), normalize(rendered(text, margin=margin)), atol=3)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("text", ["WOMB", "HIM", "MANAGING MEMBER"])
def test_heavy_capitals_that_fill_the_image_stay_dark_on_light(text, inverted):
    image = Image.new("L", (700, 80), 255)
    draw = ImageDraw.Draw(image)
    draw.text((40, 20), text, 0, ImageFont.load_default(40), stroke_width=4)
    left, top, right, bottom = ImageOps.invert(image).getbbox()
    tight = image.crop((left - 2, top - 2, right + 2, bottom + 2))
    pixels = normalize(ImageOps.invert(tight) if inverted else tight)
    assert np.median(np.concatenate((pixels[0], pixels[-1]))) > 200


def test_light_that_falls_off_is_evened_out():
    grey = np.asarray(rendered(TEXT).convert("L"), float) * np.linspace(1, 0.4, rendered(TEXT).width)
    pixels = normalize(Image.fromarray(grey.astype(np.uint8)))
    left, right = np.array_split(pixels, 2, axis=1)
    for half in (left, right):
        assert np.median(half) > 235
        assert np.median(half) - np.percentile(half, 3) > 90


def test_an_underline_darker_than_the_text_does_not_fade_it():
    image = rendered(TEXT, ink="#aaa").convert("L")
    plain = normalize(image)
    ImageDraw.Draw(image).rectangle((0, image.height - 9, image.width, image.height - 7), 0)
    letters = normalize(image)[:24]
    assert np.percentile(plain[:24], 5) < 30
    assert np.percentile(letters, 5) < 30


def test_specks_in_the_margins_do_not_widen_the_line(plain):
    pixels = np.asarray(rendered(TEXT, margin=60).convert("L")).copy()
    random = np.random.default_rng(0)
    pixels[random.integers(0, 40, 60), random.integers(0, pixels.shape[1], 60)] = 0
    assert likeness(plain, normalize(Image.fromarray(pixels))) > 0.85


def test_bits_of_the_line_above_are_cut_off(plain):
    pixels = np.asarray(rendered(TEXT, margin=40).convert("L")).copy()
    pixels[:6, 100:130] = 0
    assert likeness(plain, normalize(Image.fromarray(pixels))) > 0.9


def test_dots_and_accents_stay():
    with_dot = rendered("nimm", 60)
    rows = normalize(with_dot)
    without = normalize(rendered("nrmm", 60))
    assert with_dot.height > rendered("nrmm", 60).height
    assert rows.shape[1] < without.shape[1]  # the dot takes rows, so all is smaller


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (300, 40), 255),
        Image.new("RGB", (300, 40), "black"),
        Image.new("RGB", (1, 1), "teal"),
        Image.fromarray(np.random.default_rng(0).normal(200, 2, (40, 300)).astype(np.uint8)),
    ],
    ids=["white", "black", "one pixel", "noise"],
)
def test_an_image_without_ink_is_a_white_line(image):
    pixels = normalize(image)
    assert pixels.shape == (32, 32)
    assert (pixels == 255).all()


@pytest.mark.parametrize("size", [(1, 50), (3, 3), (2, 400), (200, 2), (31, 1)])
def test_odd_sizes_still_give_a_line(size):
    random = np.random.default_rng(1)
    pixels = normalize(Image.fromarray(random.integers(0, 256, size[::-1], dtype=np.uint8)))
    assert pixels.shape[0] == 32
    assert 8 <= pixels.shape[1] <= line_image.MAX_WIDTH


def test_a_line_that_is_too_long_is_refused_with_its_size():
    image = Image.new("L", (6000, 20), 255)
    image.paste(0, (10, 4, 5990, 16))
    striped = np.asarray(image).copy()
    striped[:, ::3] = 255
    with pytest.raises(line_image.LineError, match=r"too long: .* at 32 rows, the limit is 4,096\. Cut"):
        normalize(Image.fromarray(striped))


def test_the_same_image_gives_the_same_pixels():
    image = rendered(TEXT, 90, "navy", "#ffe").filter(ImageFilter.GaussianBlur(2))
    np.testing.assert_array_equal(normalize(image), normalize(image.copy()))
