"""A page in lines: the client finds them, in reading order, and has each read by the real server."""

import asyncio
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from client import AsyncVisionClient, InvalidImage, Reading, VisionClient
from client.cli.main import main
from client.images.pages.splitting import page_lines
from export.common.packages import SCIKIT_IMAGE, extract
from tests.text_lines import TEXTS, beside, encoded, on_paper, rendered, rendered_page

LEFT = [TEXTS[0], TEXTS[2], TEXTS[3], TEXTS[4], TEXTS[8], TEXTS[9]]
RIGHT = [TEXTS[5], TEXTS[7], TEXTS[1], TEXTS[3], TEXTS[6]]


def two_columns():
    """Under a title; the rows of one column are not those of the other."""
    columns = beside(rendered_page(LEFT), rendered_page(RIGHT, size=24))
    page = Image.new("RGB", (columns.width, columns.height + 100), "white")
    title = rendered("Sound and picture", size=44)
    page.paste(title, ((page.width - title.width) // 2, 20))
    page.paste(columns, (0, 100))
    return page, ["Sound and picture", *LEFT, *RIGHT]


PAGES = {
    "one line": lambda: (rendered(TEXTS[0]), TEXTS[:1]),
    "six lines": lambda: (rendered_page(LEFT), LEFT),
    "light on dark": lambda: (rendered_page(LEFT, ink="white", paper="black"), LEFT),
    "askew": lambda: (
        rendered_page(LEFT).rotate(-1.7, Image.Resampling.BICUBIC, True, fillcolor="white"),
        LEFT,
    ),
    "wide apart": lambda: (rendered_page(LEFT, leading=2.5), LEFT),
    "two columns": two_columns,
}


@pytest.fixture(scope="module")
def vision(server):
    with VisionClient(server.grpc_url) as client:
        yield client


@pytest.mark.parametrize("name", PAGES)
def test_lines_are_read_in_order(name, vision):
    page, expected = PAGES[name]()
    readings = vision.read_lines(page)
    assert [reading.line for reading in readings] == list(range(1, len(expected) + 1))
    texts = [reading.text for reading in readings]
    wrong = [pair for pair in zip(texts, expected, strict=True) if pair[0] != pair[1]]
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize(("lines", "leading"), [(1, 1.2), (2, 1.2), (40, 1.2), (40, 1.5), (40, 3)])
@pytest.mark.parametrize("size", [16, 30])
def test_every_line_is_found_once(lines, leading, size):
    texts = [LEFT[number % len(LEFT)] for number in range(lines)]
    assert len(page_lines(rendered_page(texts, size, leading))) == lines


LETTER = [
    *(
        "Dear Sir or Madam,",
        "was sent to London, Rome, Berlin and Vienna;",
        "1",
        "I",
        "No. 12: a",
        "End of line;",
    ),
    *("The bill is now due, so send it soon", "and we thank all the staff at home,", "We will call you, Tom"),
]
A4 = 8.27, 11.69  # inches


@pytest.mark.parametrize("dpi", [100, 150, 200, 300])
@pytest.mark.parametrize("leading", [1.15, 1.6])
def test_lines_of_a_sheet_are_read_as_if_alone(dpi, leading, vision):
    """Commas, descenders and lines of one stroke are there, however large the sheet."""
    size = round(11 / 72 * dpi)
    page = on_paper(rendered_page(LETTER, size, leading), *(round(side * dpi) for side in A4))
    expected = [reading.text for reading in vision.read_text([rendered(text, size) for text in LETTER])]
    read = [reading.text for reading in vision.read_lines(page)]
    wrong = [pair for pair in zip(read, expected, strict=True) if pair[0] != pair[1]]
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("lines", [["OK"], ["1"], ["Annual Report", "2026"], ["12", "34"], ["A", "B", "C"]])
@pytest.mark.parametrize("dpi", [75, 150, 300])
def test_a_sheet_with_little_on_it(lines, dpi, vision):
    page = on_paper(rendered_page(lines, round(dpi / 5)), *(round(side * dpi) for side in A4))
    assert [reading.text for reading in vision.read_lines(page)] == lines


def test_rules_between_columns_and_noise_join_no_lines():
    page = beside(rendered_page(LEFT), rendered_page(LEFT[:4], leading=1.9))
    ImageDraw.Draw(page).rectangle(
        (rendered_page(LEFT).width + 19, 0, rendered_page(LEFT).width + 21, page.height)
    )
    noise = np.random.default_rng(0).normal(-12, 12, page.size[::-1])
    noisy = (np.asarray(page.convert("L")) + noise).clip(0, 255).astype(np.uint8)
    assert len(page_lines(page)) == len(page_lines(noisy)) == len(LEFT) + 4


@pytest.mark.parametrize("leading", [0.95, 0.9])
@pytest.mark.parametrize("size", [16, 30])
def test_lines_that_touch_are_parted(size, leading):
    assert len(page_lines(rendered_page(LEFT, size, leading))) == len(LEFT)


@pytest.mark.parametrize("x", [3, 312, 620])
def test_a_rule_down_a_page_is_no_part_of_its_lines(x):
    page = rendered_page(LEFT)
    ImageDraw.Draw(page).rectangle((x, 0, x + 2, page.height), "black")
    assert len(page_lines(page)) == len(LEFT)


def test_a_frame_around_a_page_is_no_line():
    page = rendered_page(LEFT)
    ImageDraw.Draw(page).rectangle((2, 2, page.width - 3, page.height - 3), outline="black", width=2)
    assert len(page_lines(page)) == len(LEFT)


def test_a_photographed_page(vision):
    """Unevenly lit, and grey at its edges: most of what it says comes back."""
    with Image.open(extract(SCIKIT_IMAGE, "skimage/data/page.png")) as page:
        readings = vision.read_lines(page, on_error="return")
    text = "\n".join(reading.text for reading in readings if isinstance(reading, Reading))
    for said in (
        "Region-based segmentation",
        "Let us first determine markers of the coins and the",
        "pixels that we",
    ):
        assert said in text


@pytest.mark.parametrize("turn", [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_on_its_side_is_refused(name, turn, vision):
    with pytest.raises(InvalidImage, match="the text runs sideways: turn the page upright"):
        vision.read_lines(PAGES[name]()[0].transpose(turn), on_error="return")


def test_errors_have_their_place(vision, tmp_path):
    path = tmp_path / "page.png"
    page = rendered_page([LEFT[0], "", "", "", LEFT[1]])
    noise = np.random.default_rng(0).integers(0, 256, (30, 300, 3), np.uint8)
    page.paste(Image.fromarray(noise), (30, 110))
    page.save(path)
    results = vision.read_lines(path, on_error="return")
    assert results[0].text == LEFT[0]
    failed = [result for result in results if isinstance(result, InvalidImage)]
    assert failed
    assert str(failed[0]).startswith(f"{path}, line {failed[0].line}: ")
    with pytest.raises(InvalidImage, match=rf"page\.png, line {failed[0].line}: "):
        vision.read_lines(path)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (Image.new("L", (300, 300), 240), "no lines of text"),
        (b"no image", "cannot be decoded"),
        ("missing.png", "no such"),
    ],
)
def test_what_has_no_lines_is_said(vision, page, said):
    with pytest.raises(InvalidImage, match=said):
        vision.read_lines(page)


def test_asyncio_reads_the_same(server, vision):
    page = rendered_page(LEFT)

    async def read():
        async with AsyncVisionClient(server.http_url, protocol="http") as client:
            return await client.read_lines(page)

    assert [reading.text for reading in asyncio.run(read())] == [
        reading.text for reading in vision.read_lines(page)
    ]


def test_the_command(server, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(encoded(rendered_page(LEFT[:3])))
    (tmp_path / "b.png").write_bytes(encoded(Image.new("L", (300, 300), 240)))
    command = ["read", "--lines", str(tmp_path), "--url", server.grpc_url]
    assert main([*command, "--json"]) == 1
    shown, told = capsys.readouterr()
    *lines, empty = map(json.loads, shown.splitlines())
    assert [(line["image"], line["line"]) for line in lines] == [
        (str(tmp_path / "a.png"), n) for n in (1, 2, 3)
    ]
    assert lines[0]["text"] == LEFT[0]
    assert (empty["image"], empty["error"]["type"]) == (str(tmp_path / "b.png"), "InvalidImage")
    assert told.startswith("4 lines of 2 images in ")
    assert told.endswith("; 1 of 4 lines failed: 1 InvalidImage.\n")
    assert main(command) == 1
    assert "a.png, line 2 (" in capsys.readouterr().out
    assert main([*command, "--stream"]) == 2
    assert "--lines is for whole images" in capsys.readouterr().err
