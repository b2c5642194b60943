"""What is drawn over an image, pixel by pixel where it matters."""

import io

import numpy as np
import pytest
from PIL import Image

from client import Character, InvalidImage, InvalidInput, overlay, text_overlay
from client.images.overlays import VIRIDIS, coloured, scaled

GREY = np.full((100, 200, 3), 128, np.uint8)
CROP = (0.25, 0.0, 0.75, 1.0)


def heat_at(row, column, value=3.0):
    heatmap = np.full((8, 8), -1.0, np.float32)
    heatmap[row, column] = value
    return heatmap


def drawn(*arguments):
    return np.asarray(overlay(GREY, *arguments)).astype(int)


def test_the_hottest_place_is_where_it_is_in_the_crop():
    found = drawn(heat_at(1, 6), CROP, 1.0)
    assert found.shape == GREY.shape
    redness = found[:, :, 0] - found[:, :, 2]  # the brightest of viridis is yellow
    row, column = np.unravel_index(redness.argmax(), redness.shape)
    assert (row // 12, (column - 50) // 12) == (1, 6)
    assert tuple(found[18, 131]) == pytest.approx(VIRIDIS[-1], abs=12)


def test_the_photograph_stays_where_there_is_no_evidence_for_the_class():
    found = drawn(heat_at(1, 6), CROP)
    assert (found[60:95, 55:100] == 128).all()
    assert (drawn(np.full((8, 8), -2, np.float32)) == 128).all()


def test_what_the_model_did_not_see_is_dim_and_framed():
    found = drawn(heat_at(1, 6), CROP)
    assert found[:, :49].max() < 70
    assert found[:, 151:].max() < 70
    assert (found[:, 50] == 255).all()
    assert drawn(heat_at(1, 6))[0, 0].tolist() == [128] * 3  # all of it seen: no frame


def test_opacity_is_of_the_brightest():
    strengths = [
        np.abs(drawn(heat_at(4, 4), CROP, opacity)[10:90, 60:140] - 128).max() for opacity in (0, 0.3, 1)
    ]
    assert strengths[0] == 0
    assert strengths[0] < strengths[1] < strengths[2]
    for wrong in (-0.1, 1.1):
        with pytest.raises(InvalidInput, match="between 0 and 1"):
            overlay(GREY, heat_at(1, 1), CROP, wrong)


def test_colours_grow_lighter_with_the_number():
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    lightness = np.asarray(coloured(levels).convert("L"))[0].astype(int)
    assert (np.diff(lightness) >= 0).all()
    assert lightness[-1] - lightness[0] > 180
    for place, colour in enumerate(VIRIDIS):
        assert coloured(levels).getpixel((round(place * 255 / 8), 0)) == pytest.approx(colour, abs=2)


def test_numbers_that_are_none_draw_nothing():
    assert np.asarray(scaled(np.array([[np.nan, -1.0], [0.0, 2.0]], np.float32))).tolist() == [
        [0, 0],
        [0, 255],
    ]


def test_it_lies_over_the_upright_photograph():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG", exif=exif)
    assert overlay(file.getvalue(), heat_at(1, 1)).size == (100, 200)


def test_large_photographs_are_drawn_smaller():
    assert overlay(Image.new("L", (5000, 1000)), heat_at(1, 1)).size == (2048, 410)


def test_what_is_no_image_is_said():
    with pytest.raises(InvalidImage):
        overlay(b"no image", heat_at(1, 1))


def test_characters_are_drawn_where_they_were_read_and_below():
    line = np.full((40, 200, 3), 255, np.uint8)
    sure, unsure = Character("a", 1.0, (0.1, 0.25, 0.2, 0.75)), Character("b", 0.0, (0.6, 0.25, 0.7, 0.75))
    found = np.asarray(text_overlay(line.repeat(2, 0).repeat(2, 1), [sure, unsure], 1.0)).astype(int)
    assert found.shape == (80 + 28, 400, 3)  # letters of half their height, 40
    found = found[::2, ::2]
    assert found[20, 30].tolist() == pytest.approx(VIRIDIS[-1], abs=2)
    assert found[20, 130].tolist() == pytest.approx(VIRIDIS[0], abs=2)
    assert (found[:10] == 255).all()
    assert (found[30:40] == 255).all()
    written = np.flatnonzero((found[40:] < 128).all(2).any(0))
    assert 20 <= written.min() <= 40 <= 120 <= written.max() <= 140


def test_an_empty_line_has_no_characters():
    assert np.asarray(text_overlay(np.full((40, 200), 250, np.uint8), []))[:40].min() == 250


def test_letters_are_of_the_size_of_those_that_were_read():
    """However much of the image is margin."""
    character = Character("a", 1.0, (0.4, 0.45, 0.5, 0.75))  # 60 of 200 pixels
    found = text_overlay(np.full((200, 600), 250, np.uint8), [character])
    assert found.size == (600, 200 + round(1.4 * 30))
    thin = Character("a", 1.0, (0.4, 0.45, 0.5, 0.55))  # 20 of them, drawn twice as large
    assert text_overlay(np.full((200, 600), 250, np.uint8), [thin]).size == (1200, 400 + round(1.4 * 20))


def test_small_lines_are_drawn_larger():
    character = Character("a", 1.0, (0.1, 0.0, 0.2, 1.0))
    assert text_overlay(np.full((15, 100), 250, np.uint8), [character]).size == (300, 45 + round(1.4 * 22))
    assert text_overlay(np.full((15, 2000), 250, np.uint8), [character]).width == 2000
