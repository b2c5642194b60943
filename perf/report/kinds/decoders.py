"""Decoders of JPEG files side by side."""

from typing import Any

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS

__all__ = ["section"]


def section(raw: RawResult) -> Section:
    """Of kind "decoders": a figure of the first kind of input, and a table of all."""
    kinds = list(dict.fromkeys(row["kind"] for row in raw["rows"]))
    figures = [figure(kind, [row for row in raw["rows"] if row["kind"] == kind]) for kind in kinds]
    headings = [
        "input",
        "decoder",
        "ms per file",
        "speed to served",
        "largest difference",
        "beyond 1 level",
        "same top-1",
    ]
    rows = [
        [
            row["kind"],
            row["decoder"],
            number(row["ms"]),
            number(row["speed_to_served"]),
            f"{row['max']}",
            f"{row['beyond_1']:.2%}",
            f"{row['same_top_1']} of {row['images']}",
        ]
        for row in raw["rows"]
    ]
    doubts = [f"Left out: {', '.join(raw['left_out'])}."] if raw["left_out"] else []
    return Section(
        "Decoders of JPEG files",
        verdict([row for row in raw["rows"] if row["kind"] == kinds[0]]),
        f"Bytes to 224 x 224 pixels, {raw['rounds']} alternating rounds; differences are from Pillow.",
        doubts,
        figures[:1],
        [Table("Every decoder", headings, rows, left=2)],
    )


def verdict(rows: list[dict[str, Any]]) -> str:
    """What is served comes first, and the fastest of the others."""
    served, *others = rows
    told = f"What is served takes {number(served['ms'])} ms for one of the {served['kind']}"
    if not others:
        return f"{told}."
    best = min(others, key=lambda row: row["ms"])
    return f"{told}; the fastest other, {best['decoder']}, {number(best['ms'])} ms."


def figure(kind: str, rows: list[dict[str, Any]]) -> Figure:
    """Milliseconds a file, a bar for each decoder."""

    def draw(axes: Axes) -> None:
        axes.barh([row["decoder"] for row in rows], [row["ms"] for row in rows], height=0.6, color=COLOURS[0])
        axes.margins(y=0.02)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("ms per file")

    return Figure(
        f"decoders-{kind.replace(' ', '-')}", f"Decoding: {kind}", draw, height=0.9 + 0.3 * len(rows)
    )
