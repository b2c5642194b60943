"""Real lines of text with known content, for verification, tests and the demo: a photographed page.

The page comes with scikit-image: unevenly lit, bent and not quite sharp. Six lines are enough for parity
and for showing, too few to measure a model's accuracy.
"""

from dataclasses import dataclass

from PIL import Image

from export.common.packages import SCIKIT_IMAGE, extract

__all__ = ["TextLine", "page_lines"]

# Left, top, right and bottom in pixels of page.png, and what is written there
LINES = (
    ((3, 10, 297, 35), "Region-based segmentation"),
    ((3, 47, 381, 65), "Let us first determine markers of the coins and the"),
    ((3, 66, 381, 83), "background. These markers are pixels that we can label"),
    ((3, 83, 381, 101), "unambiguously as either object or background. Here,"),
    ((3, 100, 381, 119), "the markers are found at the two extreme parts of the"),
    ((3, 117, 175, 137), "histogram of grey values:"),
)


@dataclass(frozen=True)
class TextLine:
    """A line cut out of the page, as a grey image of its own size, and its text."""

    image: Image.Image
    text: str


def page_lines() -> list[TextLine]:
    """All six. Downloads at the first call; raises `PackageError` if it cannot."""
    with Image.open(extract(SCIKIT_IMAGE, "skimage/data/page.png")) as page:
        return [TextLine(page.convert("L").crop(box), text) for box, text in LINES]
