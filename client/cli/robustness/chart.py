"""The picture: a small chart for each corruption, all on one scale, nothing told by colour alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import Image

from ...common.identity import IS_INSTALLED
from ...errors import InvalidInput
from ...images.corruptions import CORRUPTIONS
from .report import titles
from .tally import UNDISTURBED, Tally, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["chart", "checked_matplotlib"]

COLUMNS = 3
KEY = "broken line: undisturbed; pale bars: 95% interval"
WIDTH, HEIGHT, MARGIN = 3.2, 2.6, 1.0  # inches of a chart, and of the lines above all of them
DOTS_PER_INCH = 150
LINE, INK, GRID = "#1f4e9c", "#1b1b1f", "#d9d9de"
STYLE: Any = {  # of matplotlib's rcParams; text.parse_math would read the model's words as formulas
    "font.size": 9,
    "text.parse_math": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), INK),
}
INSTALL = "pip install 'triton-vision-client[robustness]'" if IS_INSTALLED else "pip install matplotlib"


def checked_matplotlib() -> None:
    """Raises InvalidInput where it is not installed, before anything is asked."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InvalidInput(f"-o draws with matplotlib: `{INSTALL}`, or leave -o off for the table.") from None


def chart(tally: Tally) -> Image.Image:
    """In RGB: the measure by strength, with its 95 % interval, and undisturbed as a broken line."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = tally.corruptions
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    with rc_context(STYLE):
        figure = Figure((max(2, columns) * WIDTH, rows * HEIGHT + MARGIN), layout="constrained")
        for place, name in enumerate(names):
            _draw(figure.add_subplot(rows, columns, place + 1), tally, name, is_left=place % columns == 0)
        figure.suptitle("\n".join([*titles(tally), KEY]), x=0.01, ha="left", fontsize=10, wrap=True)
        return _image(figure)


def _draw(axes: Axes, tally: Tally, name: str, is_left: bool) -> None:
    from matplotlib.patheffects import withStroke

    variants = tally.of(name)
    strengths = [one.strength for one in variants]
    shares = [100 * tally.count(one) / tally.images for one in variants]
    intervals = [interval(tally.count(one), tally.images) for one in variants]
    low, high = ([100 * side for side in sides] for sides in zip(*intervals, strict=True))
    axes.vlines(strengths, low, high, color=LINE, alpha=0.35, linewidth=5)
    axes.plot(strengths, shares, color=LINE, marker="o", markersize=5, linewidth=1.8)
    axes.axhline(100 * tally.count(UNDISTURBED) / tally.images, color=INK, linestyle="--", linewidth=0.8)
    for strength, share in zip(strengths, shares, strict=True):
        axes.annotate(
            *(f"{share:.0f}", (strength, share), (6, 4)),
            textcoords="offset points",
            fontsize=8,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],  # lines end where a number begins
        )
    axes.set_title(name, loc="left", fontweight="bold")
    axes.set_xlabel(CORRUPTIONS[name].unit)
    axes.set_xticks(strengths, [f"{one.level:g}" for one in variants])
    axes.set_xlim(min(strengths) - 0.4, max(strengths) + 0.6)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 25))
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if is_left:
        axes.set_ylabel(f"{tally.measure}, %")


def _image(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH, facecolor="white")
    return Image.open(file).convert("RGB")
