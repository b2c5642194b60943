"""The simulation of a service against measured loads that it was not fitted on."""

from typing import Any

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS, legend

__all__ = ["section"]

FIGURES = {"throughput": "answers a second", "p50_ms": "p50, ms", "p99_ms": "p99, ms"}
CHECKED = ("throughput", "p99_ms")  # what is to be right


def load(row: dict[str, Any]) -> str:
    """A rate as a share of the peak, or so many requests always under way."""
    if row.get("concurrency"):
        return f"{row['concurrency']} under way"
    return f"{row['share']:.0%} of the peak, {number(row['rate'])}/s"


def section(raw: RawResult) -> Section:
    """Of kind "capacity": latency, predicted and measured; no figure if no load was checked."""
    rows = raw["comparison"]
    model = raw["model"]["name"]

    def draw(axes: Axes) -> None:
        rates = [row["throughput"]["measured"] for row in rows]
        for colour, key in zip(COLOURS, ("p50_ms", "p99_ms"), strict=False):
            measured = [row[key]["measured"] for row in rows]
            spread = [
                [m - row[key]["measured_spread"][0] for m, row in zip(measured, rows, strict=True)],
                [row[key]["measured_spread"][1] - m for m, row in zip(measured, rows, strict=True)],
            ]
            name = FIGURES[key].partition(",")[0]
            axes.errorbar(rates, measured, spread, fmt="o", color=colour, capsize=3, label=f"{name} measured")
            axes.plot(
                rates, [row[key]["predicted"] for row in rows], "--x", color=colour, label=f"{name} predicted"
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("answers a second")
        axes.set_ylabel("latency, ms")
        legend(axes)

    table = [
        [load(row)]
        + [
            text
            for key in FIGURES
            for text in (
                number(row[key]["measured"]),
                number(row[key]["predicted"]),
                f"{row[key]['error_percent']:+.1f} %",
            )
        ]
        for row in rows
    ]
    headings = ["load"]
    headings += [
        f"{label}{end}" for label in FIGURES.values() for end in (", measured", ", predicted", ", error")
    ]
    worst = max((abs(row[key]["error_percent"]) for row in rows for key in CHECKED), default=None)
    told = (
        "No load was checked."
        if worst is None
        else f"Predictions were off by {worst:.1f} % at most, in throughput and p99."
    )
    return Section(
        f"Capacity: the simulation against measurement, {model}",
        told,
        f"The peak measured: {number(raw['peak'])}/s, with 32 requests under way.",
        [],
        [Figure("capacity", "Predicted and measured latency", draw)] if rows else [],
        [Table("Loads that it was not fitted on", headings, table)] if rows else [],
    )
