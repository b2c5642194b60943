"""The curve of a run: as one line of blocks per number, and as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

__all__ = ["draw_curve", "print_curve", "sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"
RATES = {"cer_clean_percent": ("clean", "tab:blue"), "cer_degraded_percent": ("degraded", "tab:red")}
INCHES, DPI = (7.0, 6.0), 120


def print_curve(console: Console, curve: list[dict[str, float]]) -> None:
    """The loss and both CERs over the validations, each from its own least to its own most, by logarithm."""
    for key in ("loss", "cer_clean_percent", "cer_degraded_percent"):
        values = [row[key] for row in curve if row[key] > 0]
        if values:
            console.print(f"{key:22} {sparkline(values)} {values[0]:.3g} to {values[-1]:.3g}")


def sparkline(values: list[float]) -> str:
    """One block for each value, by its logarithm; raises `ValueError` for one that is not above 0."""
    logs = [math.log(value) for value in values]
    low, span = min(logs), max(logs) - min(logs) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in logs)


def draw_curve(
    model: str, losses: Sequence[tuple[float, float]], curve: Sequence[dict[str, float]], path: Path
) -> None:
    """A PNG at `path`: the loss over minutes, and below it the character error rates of the validations.

    losses: (minutes, loss per line). curve: a row per validation. Both scales are logarithms.
    """
    from matplotlib.figure import Figure  # takes a second; no window, no global state
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    loss, rates = figure.subplots(2, 1, sharex=True)
    loss.set_title(f"{model}: training", loc="left")
    loss.plot(*zip(*losses, strict=True), color="0.25", linewidth=1.2)
    loss.set_ylabel("CTC loss per line")
    for key, (name, colour) in RATES.items():
        points = [(row["minutes"], row[key]) for row in curve if row.get(key, 0) > 0]
        if points:
            rates.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4)
            rates.annotate(
                f"{name} {points[-1][1]:.2f} %",
                points[-1],
                (6, 0),
                textcoords="offset points",
                color=colour,
                va="center",
                annotation_clip=False,
            )
    if not curve:
        rates.text(0.5, 0.5, "no validation yet", transform=rates.transAxes, ha="center", color="0.5")
    rates.set_ylabel("character errors, %, of unseen fonts")
    rates.set_xlabel("minutes of training")
    for axes in (loss, rates):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9")
    scratch = path.with_name(f".{path.name}.new")
    figure.savefig(scratch, format="png")
    scratch.replace(path)
