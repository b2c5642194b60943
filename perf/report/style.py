"""How figures look: one palette, readable on white and on black, and drawings that several kinds share."""

import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from perf.report.content import Figure

__all__ = [
    "COLOURS",
    "INK",
    "direct_label",
    "from_zero",
    "legend",
    "log_latency",
    "png",
    "stacked_bars",
    "svg",
    "titled",
]

matplotlib.use("agg")  # no display is needed, and no window opens

COLOURS = ("#4285f4", "#e8710a", "#1e9e63", "#c2479b", "#8a6fd6", "#b08900", "#0097a7", "#8d8d8d")
STAGE_COLOURS = {
    "client": "#8d8d8d",
    "network": "#b08900",
    "between models": "#c2479b",
    "queue": "#e8710a",
    "input": "#0097a7",
    "decode": "#8a6fd6",
    "infer": "#4285f4",
    "output": "#1e9e63",
}
INK, GRID, PAPER = "#1b1b1f", "#d9d9de", "#ffffff"
DOTS_PER_INCH = 150
STYLE: Any = {  # of matplotlib's rcParams
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text: the page's own font, and it can be searched
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "grid.linewidth": 0.6,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK),
    "grid.color": GRID,
}


def png(figure: Figure) -> bytes:
    """For documents and messages: on white, with the title."""
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        titled(figure).savefig(file, format="png", dpi=DOTS_PER_INCH, facecolor=PAPER)
    return file.getvalue()


def svg(figure: Figure, name: str) -> str:
    """For the page, inline: text and grid in the page's colours; `name` keeps ids on the page apart."""
    file = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        drawn(figure).savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(GRID, "var(--line)")
    text = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    return re.sub(r' (width|height)="[0-9.]+pt"', "", text, count=2).replace("<svg", '<svg role="img"', 1)


def titled(figure: Figure) -> Canvas:
    """As a PNG has it; on the page the title is below."""
    with matplotlib.rc_context(STYLE):
        canvas = drawn(figure)
        canvas.axes[0].set_title(figure.title, loc="left", fontsize=11)
    return canvas


def drawn(figure: Figure) -> Canvas:
    """Without the title, in the style that is set around the call."""
    canvas = Canvas(figsize=(figure.width, figure.height))
    figure.draw(canvas.add_subplot())
    return canvas


def stacked_bars(axes: Axes, rows: list[tuple[str, dict[str, float]]], stages: list[str]) -> None:
    """Horizontal bars, the first row on top, with their totals."""
    labels = [label for label, _ in rows]
    starts = [0.0] * len(rows)
    for stage in stages:
        widths = [parts.get(stage, 0.0) for _, parts in rows]
        axes.barh(labels, widths, left=starts, height=0.62, label=stage, color=STAGE_COLOURS[stage])
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for position, total in enumerate(starts):
        axes.annotate(
            f"{total:.3g}", (total, position), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.08)
    legend(axes)


def legend(axes: Axes, ncols: int = 4) -> None:
    """Below the drawing, in rows of `ncols`: there it covers neither the title nor what is drawn."""
    handles, labels = axes.get_legend_handles_labels()
    canvas = axes.get_figure()
    if canvas is not None and handles:
        canvas.legend(handles, labels, loc="outside lower left", ncols=ncols, fontsize=8, columnspacing=1.5)


def log_latency(axes: Axes) -> None:
    """A logarithmic vertical axis with numbers that people read: 1, 2, 5, 10, 20, ..."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def direct_label(
    axes: Axes, text: str, x: float, y: float, colour: str, offset: tuple[float, float] = (5, 4)
) -> None:
    """Small words beside a point."""
    axes.annotate(text, (x, y), offset, textcoords="offset points", fontsize=7, color=colour)


def from_zero(axes: Axes, values: list[float | None]) -> None:
    """The vertical axis from 0 to somewhat above the largest value."""
    axes.set_ylim(0, 1.15 * max(value or 0 for value in values))
