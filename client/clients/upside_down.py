"""Whether a page lies upside down: some of its lines, turned, are read with more confidence than as they are.

The ink cannot tell: lines are lines either way round. A page that is read well is asked nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..errors import InvalidImage, VisionError
from ..images.inputs import describe
from ..results import Reading

__all__ = ["UPSIDE_DOWN", "check_upright", "doubtful_lines", "turned"]

WELL_READ = 0.9  # mean confidence: a page upside down has 0.55 to 0.85, a clean one upright nearly 1
MOST_ASKED = 8  # lines, the longest
LEAST_CHARACTERS = 10  # of them together: what is shorter may be a word either way round
BETTER = 0.1  # in mean confidence
UPSIDE_DOWN = "the text is upside down: turn the page by 180 degrees."

Result = Reading | VisionError


def doubtful_lines(results: Sequence[Result]) -> list[int]:
    """Places of the lines by which to tell; none of a page that is read well, or of too little."""
    longest = sorted(range(len(results)), key=lambda place: -len(_text(results[place])))[:MOST_ASKED]
    characters = sum(len(_text(results[place])) for place in longest)
    is_clear = (
        characters < LEAST_CHARACTERS or _confidence([results[place] for place in longest]) >= WELL_READ
    )
    return [] if is_clear else sorted(longest)


def turned(lines: Sequence[Image.Image], places: Sequence[int]) -> list[Image.Image]:
    """These lines by 180 degrees."""
    return [lines[place].transpose(Image.Transpose.ROTATE_180) for place in places]


def check_upright(
    page: object, results: Sequence[Result], places: Sequence[int], after: Sequence[Result]
) -> None:
    """Raises InvalidImage if the lines at these places were read better `after` they had been turned."""
    before = [results[place] for place in places]
    if before and _confidence(after) > _confidence(before) + BETTER:
        raise InvalidImage(UPSIDE_DOWN).about(describe(page, None), None)


def _text(result: Result) -> str:
    return result.text if isinstance(result, Reading) else ""


def _confidence(results: Sequence[Result]) -> float:
    confidences = [(result.confidence or 0.0) if isinstance(result, Reading) else 0.0 for result in results]
    return sum(confidences) / max(1, len(confidences))
