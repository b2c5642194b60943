"""A page upside down is said to be so; one that is hard to read, and upright, is read."""

import asyncio

import numpy as np
import pytest
from PIL import Image, ImageFilter

from client import AsyncVisionClient, InvalidImage, VisionClient
from tests.text_lines import TEXTS, rendered_page

LINES = [TEXTS[0], TEXTS[3], TEXTS[5], TEXTS[8]]
PAGES = {
    "large": lambda: rendered_page(LINES, 40),
    "small": lambda: rendered_page(LINES, 14),
    "light on dark": lambda: rendered_page(LINES, ink="white", paper="navy"),
    "one line": lambda: rendered_page(LINES[:1]),
}


@pytest.fixture(scope="module")
def vision(server):
    with VisionClient(server.grpc_url) as client:
        yield client


@pytest.mark.parametrize("name", PAGES)
def test_a_page_upside_down_is_refused(name, vision):
    page = PAGES[name]()
    with pytest.raises(InvalidImage, match="upside down: turn the page by 180 degrees"):
        vision.read_lines(page.rotate(180), on_error="return")
    assert len(vision.read_lines(page)) == (1 if name == "one line" else len(LINES))


def test_a_page_that_is_hard_to_read_is_not(vision):
    blurred = rendered_page(LINES, 16).convert("L").filter(ImageFilter.GaussianBlur(2.2))
    noise = np.random.default_rng(0).normal(-15, 15, blurred.size[::-1])
    page = (np.asarray(blurred) + noise).clip(0, 255).astype(np.uint8)
    results = vision.read_lines(page, on_error="return")
    confidences = [getattr(result, "confidence", 0) for result in results]
    assert sum(confidences) / len(confidences) < 0.9, "choose a harder one"
    assert len(results) == len(LINES)


def test_words_that_say_something_either_way_are_left(vision):
    page = rendered_page(["SOS", "OHO"]).transpose(Image.Transpose.ROTATE_180)
    assert [reading.text for reading in vision.read_lines(page)] == ["OHO", "SOS"]


def test_asyncio_says_the_same(server):
    async def read():
        async with AsyncVisionClient(server.http_url, protocol="http") as client:
            return await client.read_lines(PAGES["large"]().rotate(180))

    with pytest.raises(InvalidImage, match="upside down"):
        asyncio.run(read())
