"""Cost as the work grows: batches, files, lines."""

import statistics
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS, direct_label, legend, log_latency

__all__ = ["section"]

SERIES = {"in_process_ms": "in-process", "served_ms": "served over gRPC", "compute_ms": "of it computing"}


def section(raw: RawResult) -> Section:
    """Of kind "cost": a figure and a table for each curve, medians of the rounds."""
    figures, tables, sentences = [], [], []
    for curve in raw["curves"]:
        points = medians(curve["rows"])
        each = curve["name"] == "batch"  # the cost of one photograph shows what a batch saves
        figures.append(figure(curve, points, each))
        headings = [curve["unit"], *(f"{label}, ms" for label in SERIES.values()), "served, ms for one unit"]
        rows = [
            [f"{x:g}", *(number(point[key]) for key in SERIES), number(point["served_ms"] / x)]
            for x, point in points.items()
        ]
        tables.append(Table(curve["title"], headings, rows))
        (first, low), (last, high) = next(iter(points.items())), list(points.items())[-1]
        sentences.append(
            f"{curve['title']}: {number(low['served_ms'])} ms for {first:g} {curve['unit']}, "
            f"{number(high['served_ms'])} ms for {last:g}."
        )
    unstable = sum(not row["stable"] for curve in raw["curves"] for row in curve["rows"])
    doubts = [f"{unstable} points were unstable, over 10 % between windows."] if unstable else []
    doubts += [f"Not measured: {one.splitlines()[0]}" for one in raw.content.get("failed", [])]
    return Section(
        "How cost grows with the work", " ".join(sentences), doubts=doubts, figures=figures, tables=tables
    )


def medians(rows: list[dict[str, Any]]) -> dict[float, dict[str, float]]:
    """By size of the work, over the rounds."""
    return {
        x: {key: statistics.median(row[key] for row in rows if row["x"] == x) for key in SERIES}
        for x in dict.fromkeys(row["x"] for row in rows)
    }


def figure(curve: dict[str, Any], points: dict[float, dict[str, float]], each: bool) -> Figure:
    """Milliseconds over the size of the work, logarithmic; with `each` those of one unit, linear."""

    def draw(axes: Axes) -> None:
        for colour, (key, label) in zip(COLOURS, SERIES.items(), strict=False):
            values = [point[key] / (x if each else 1) for x, point in points.items()]
            axes.plot(list(points), values, color=colour, marker="o", label=label)
            if key == "served_ms":
                for x, value in zip(points, values, strict=True):
                    direct_label(axes, number(value), x, value, colour, (-6, 7))
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(points), [number(x) if x % 1 else f"{x:,.0f}" for x in points])
        if each:
            axes.set_ylim(bottom=0)
        else:
            log_latency(axes)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(curve["unit"])
        axes.set_ylabel("ms for one photograph" if each else "ms for one request")
        legend(axes)

    return Figure(f"cost-{curve['name']}", curve["title"], draw)
