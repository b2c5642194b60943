"""The same jobs behind what people would pick instead."""

from typing import Any

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS, legend
from perf.summaries.compare import ALONE, ratios, tables

__all__ = ["section"]


def section(raw: RawResult) -> Section:
    """Of kind "compare": bars for each job, our shares, and every server."""
    rows = tables(raw)
    jobs = list(dict.fromkeys(row["job"] for row in rows))
    figures = [figure(job, [row for row in rows if row["job"] == job]) for job in jobs]
    levels = sorted({level for row in rows for level in row["levels"]} - {ALONE}, key=int)
    table = [
        [row["job"], row["server"]]
        + [cell(row["levels"].get(level) or row["levels"].get(ALONE)) for level in levels]
        + [row["note"]]
        for row in rows
    ]
    found = ratios(raw)
    shares = [
        [
            *(row[key] for key in ("job", "ours", "concurrency", "peer")),
            *(number(row[key]) for key in ("of_peer", "p99_of_peer", "of_limit")),
        ]
        for row in found
    ]
    missing = {name: why for one in raw["runs"] for name, why in one["not_installable"].items()}
    return Section(
        "Beside what people would pick instead",
        verdict(found),
        f"{', '.join(jobs)}: every server has the same work, cores and client.",
        [f"{name} could not be installed: {why.splitlines()[-1]}" for name, why in missing.items()],
        figures,
        [
            Table(
                "Ours against the best peer and the in-process limit",
                ["job", "ours", "concurrency", "best peer", "rate of it", "p99 of it", "of the limit"],
                shares,
                left=4,
            ),
            Table(
                "Answers a second (p99 in ms), medians",
                ["job", "server", *(f"concurrency {level}" for level in levels), ""],
                table,
                left=2,
            ),
        ],
    )


def verdict(found: list[dict[str, Any]]) -> str:
    """Ours as it is (the first setting) beside the best peer, job by job."""
    shares: dict[str, list[str]] = {}
    for row in found:
        if row["ours"] == next(one["ours"] for one in found if one["job"] == row["job"]):
            shares.setdefault(row["job"], []).append(f"{row['of_peer']:.2f} at {row['concurrency']}")
    if not shares:
        return "No peer was measured."
    told = "; ".join(f"{job} {', '.join(parts)}" for job, parts in shares.items())
    return f"Our rate over the best peer's, by concurrency: {told}."


def cell(level: tuple[float, float] | None) -> str:
    """Answers/s (p99 in ms), as in "310 (27.4)"; "" for None, where it was not measured."""
    return f"{number(level[0])} ({number(level[1])})" if level else ""


def figure(job: str, rows: list[dict[str, Any]]) -> Figure:
    """Bars by server: one for each concurrency; what is in-process has one."""
    levels = sorted({level for row in rows for level in row["levels"]} - {ALONE}, key=int)
    height = 0.8 / max(1, len(levels))

    def draw(axes: Axes) -> None:
        for place, level in enumerate(levels):
            bars = [row["levels"].get(level) or (0, 0) for row in rows]
            positions = [n + (place - (len(levels) - 1) / 2) * height for n in range(len(rows))]
            axes.barh(
                positions,
                [b[0] for b in bars],
                height * 0.9,
                label=f"concurrency {level}",
                color=COLOURS[place],
            )
        limits = [(n, row["levels"][ALONE][0]) for n, row in enumerate(rows) if ALONE in row["levels"]]
        axes.barh(
            [n for n, _ in limits], [rate for _, rate in limits], 0.4, label="in-process", color=COLOURS[7]
        )
        axes.set_yticks(range(len(rows)), [row["server"] for row in rows])
        axes.margins(y=0.02)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("answers a second")
        legend(axes, len(levels) + 1)

    return Figure(f"compare-{job}", f"Answers a second: {job}", draw, height=1.2 + 0.45 * len(rows))
