"""What is not one upright line of text: read_text says what it is instead of reading something."""

import numpy as np
import pytest
from PIL import Image

from client import InvalidImage, Reading, VisionClient
from export.common.packages import SCIKIT_IMAGE, extract
from export.model_code import layout, line_image
from export.sources.photographs import photographs
from tests.text_lines import TEXTS, on_paper, rendered, rendered_page

SEVERAL, SIDEWAYS, NO_TEXT = "several lines of text", "the text runs sideways", "no text that could be read"
PARAGRAPH = [TEXTS[0], TEXTS[4], TEXTS[5], TEXTS[7], TEXTS[8], TEXTS[9]]
TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)


@pytest.fixture(scope="module")
def vision(server):
    with VisionClient(server.grpc_url) as client:
        yield client


def photographed_page():
    with Image.open(extract(SCIKIT_IMAGE, "skimage/data/page.png")) as page:
        return page.convert("L")


PAGES = {
    "two lines": lambda: rendered_page(PARAGRAPH[:2]),
    "two words": lambda: rendered_page(["Sound", "picture"]),
    "three lines, wide apart": lambda: rendered_page(PARAGRAPH[:3], leading=2),
    "six lines": lambda: rendered_page(PARAGRAPH),
    "light on dark": lambda: rendered_page(PARAGRAPH, ink="gold", paper="navy"),
    "small": lambda: rendered_page(PARAGRAPH, size=14),
    "forty lines": lambda: (
        rendered_page(PARAGRAPH * 7, size=16).convert("L").resize((900, 1200), Image.Resampling.BICUBIC)
    ),
    "askew": lambda: rendered_page(PARAGRAPH).rotate(2, expand=True, fillcolor="white"),
    "photographed": photographed_page,
    "a headline over small print": lambda: headline(),
    "short words, wide apart": lambda: on_paper(rendered_page(["i", "one", "two."], leading=2.1), 800, 260),
    "two words on a large sheet": lambda: on_paper(rendered_page(["Yes", "No"], leading=2), 800, 400),
    "a letter a line": lambda: on_paper(rendered_page(["A", "B", "C"], leading=2), 800, 260),
}


def headline():
    page = Image.new("RGB", (800, 400), "white")
    page.paste(rendered("A Large Headline", 60), (40, 20))
    page.paste(rendered_page(["small print below the headline", "and a second row of it"], 20, 2), (30, 130))
    return page


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_several_lines(name, vision):
    with pytest.raises(InvalidImage, match=SEVERAL):
        vision.read_text(PAGES[name]())


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("image", [*TEXTS[:3], "page", "photographed"])
def test_sideways_text_is_seen(image, turn, vision):
    upright = {"page": PAGES["six lines"], "photographed": photographed_page}.get(
        image, lambda: rendered(image)
    )
    with pytest.raises(InvalidImage, match=SIDEWAYS):
        vision.read_text(upright().transpose(turn))


def test_photographs_are_no_text(vision):
    """What looks like it holds lines is refused for that; few are read, and each as a word or less."""
    results = vision.read_text([photo.path for photo in photographs()], on_error="return")
    read = [result for result in results if isinstance(result, Reading)]
    assert len(read) <= 1, [(reading.source, reading.text) for reading in read]
    said = [result.message for result in results if isinstance(result, InvalidImage)]
    assert sum(NO_TEXT in message for message in said) > len(results) / 2
    assert all(message.startswith((SEVERAL, SIDEWAYS, NO_TEXT)) for message in said)


def test_noise_is_no_text(vision):
    noise = np.random.default_rng(0).integers(0, 256, (50, 400), dtype=np.uint8)
    with pytest.raises(InvalidImage, match=NO_TEXT):
        vision.read_text(noise)


def test_an_empty_image_is_an_empty_line(vision):
    assert vision.read_text(Image.new("L", (400, 50), 250)).text == ""


@pytest.mark.parametrize("text", ["OK", "STOP", "one", "1", "8:30"])
@pytest.mark.parametrize("sheet", [(800, 140), (2000, 1060), (600, 2400)])
@pytest.mark.parametrize(("ink", "paper"), [("black", "white"), ("white", "black")])
def test_a_word_alone_is_read_however_large_its_sheet(text, sheet, ink, paper, vision):
    page = Image.new("RGB", sheet, paper)
    page.paste(rendered(text, 28, ink, paper), (40, 40))
    assert vision.read_text(page).text == text


def test_noisy_and_unevenly_lit_paper_is_an_empty_line(vision):
    noise = np.random.default_rng(0).normal(0, 3, (400, 1200))
    light = np.linspace(120, 230, 1200)
    assert vision.read_text((light + noise).clip(0, 255).astype(np.uint8)).text == ""


def test_others_of_the_batch_are_read(vision):
    results = vision.read_text([rendered("no"), PAGES["six lines"](), rendered("8:30")], on_error="return")
    assert [getattr(result, "text", None) for result in results] == ["no", None, "8:30"]
    assert str(results[1]).startswith(f"image 2: {SEVERAL}")


def kind_of(image):
    found = line_image.find_line(image)
    return found and layout.what_else(found.image.crop(found.box), found.inverted)


SINGLE = (
    *TEXTS,
    *("8:30", "10:45", "1,284.50", "%", "@", "&", "i", "j", "E", "EEE", "m", "minimum", "ii", "!", "?"),
    *(
        "=",
        "===",
        "::",
        "...",
        "R$ 1.284,50",
        "à é ü",
        "(a)",
        "[12]",
        "x = y",
        "Il",
        "ÁÉ",
        "SÃO",
        "____",
        "||||",
    ),
)


@pytest.mark.parametrize("size", [12, 16, 24, 36, 72, 200])
def test_every_single_line_is_taken_for_one(size):
    wrong = {text: kind for text in SINGLE if (kind := kind_of(rendered(text, size)))}
    assert not wrong


def test_underlined_and_framed_lines_are_one():
    from PIL import ImageDraw

    for text in TEXTS[:3]:
        underlined = rendered(text, 40, margin=24)
        draw = ImageDraw.Draw(underlined)
        draw.rectangle((24, underlined.height - 20, underlined.width - 24, underlined.height - 17), "black")
        assert kind_of(underlined) is None
        draw.rectangle((24, 4, underlined.width - 24, 7), "black")
        assert kind_of(underlined) is None
