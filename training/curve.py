"""The curve of a run as one line of blocks per number."""

import math

from rich.console import Console

__all__ = ["print_curve", "sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"


def print_curve(console: Console, curve: list[dict[str, float]]) -> None:
    """The loss and both CERs over the validations, each from its own least to its own most, by logarithm."""
    for key in ("loss", "cer_clean_percent", "cer_degraded_percent"):
        values = [row[key] for row in curve if row[key] > 0]
        if values:
            console.print(f"{key:22} {sparkline(values)} {values[0]:.3g} to {values[-1]:.3g}")


def sparkline(values: list[float]) -> str:
    logs = [math.log(value) for value in values]
    low, span = min(logs), max(logs) - min(logs) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in logs)
