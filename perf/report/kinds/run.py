"""Levels of load: throughput and latency, where time goes, and how large batches were."""

import math
from typing import Any

from matplotlib.axes import Axes

from perf.harness.load import BREAKDOWN, PERCENTILES
from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS, from_zero, legend, log_latency, stacked_bars
from perf.summaries.run import batch_sizes, described, medians, series

__all__ = ["section"]

LINES = {"p50_ms": ":", "p99_ms": "-"}
MANY = 20  # times the smallest: a logarithmic axis
STAGES = {  # perf_analyzer's columns, in words
    "client": ("Client Send", "Client Recv"),
    "network": ("Network+Server Send/Recv",),
    "queue": ("Server Queue",),
    "input": ("Server Compute Input",),
    "infer": ("Server Compute Infer",),
    "output": ("Server Compute Output",),
}


def section(raw: RawResult) -> Section:
    """Of kind "run": throughput, latency, stages and batches over the levels, medians of the rounds.

    Stages and batches are those of the first series alone, and only where they are known.
    """
    levels = medians(raw["levels"])
    doubtful = [level for level in levels if not level["stable"]]
    best = max(levels, key=lambda level: level["throughput"])
    figures = [
        Figure(
            "throughput",
            f"Throughput: {raw['title']}",
            lambda axes: draw_throughput(axes, levels),
            height=3.2,
        ),
        Figure("latency", f"Latency: {raw['title']}", lambda axes: draw_latency(axes, levels)),
    ]
    first = [level for level in levels if series(level) == series(levels[0])]
    if all(level["breakdown_us"] for level in first):
        figures.append(
            Figure(
                "stages",
                f"Where the time of a request goes, {series(first[0])}",
                lambda axes: draw_stages(axes, first),
                height=1.7 + 0.42 * len(first),
            )
        )
    names = sorted({name for level in first for name in batch_sizes(level)})
    if names:
        figures.append(
            Figure(
                "batches",
                "Inferences per execution",
                lambda axes: draw_batches(axes, first, names),
                height=3.2,
            )
        )
    doubts = []
    if doubtful:
        doubts.append(f"Unstable, over 10 % between windows: {', '.join(map(described, doubtful))}.")
    if not raw["inputs"]["real"]:
        doubts.append("The inputs were random.")
    doubts += [f"Not measured: {one['level']}." for one in raw.content.get("failed", [])]
    return Section(
        raw["title"],
        f"Up to {number(best['throughput'])} inferences a second ({described(best)}; p99 "
        f"{number(best['p99_ms'])} ms).",
        f"Sent: {raw['inputs']['content']}.",
        doubts,
        figures,
        [table(levels, names)],
    )


def short(level: dict[str, Any]) -> str:
    """The load alone: "8" for a concurrency, "40/s" for a rate."""
    return str(level["concurrency"]) if level["concurrency"] else f"{level['request_rate']:g}/s"


def by_load(
    axes: Axes, levels: list[dict[str, Any]]
) -> list[tuple[str, str, list[dict[str, Any]], list[int]]]:
    """Name, colour, levels and places of what is drawn as one line; the loads, in order, along the axis."""
    loads = sorted({level["concurrency"] or level["request_rate"] for level in levels})
    axes.set_xticks(range(len(loads)), [f"{load:g}" for load in loads])
    axes.set_xlabel("requests in flight" if levels[0]["concurrency"] else "requests a second, asked for")
    found = []
    for colour, name in zip(COLOURS, dict.fromkeys(map(series, levels)), strict=False):
        points = [level for level in levels if series(level) == name]
        places = [loads.index(level["concurrency"] or level["request_rate"]) for level in points]
        found.append((name, colour, points, places))
    return found


def draw_latency(axes: Axes, levels: list[dict[str, Any]]) -> None:
    """p50 dotted and p99 solid, milliseconds; logarithmic from a spread of `MANY` times on."""
    lines = by_load(axes, levels)
    for name, colour, points, places in lines:
        for key, line in LINES.items():
            values = [level[key] for level in points]
            label = f"{name} {key.removesuffix('_ms')}"
            axes.plot(places, values, line, color=colour, marker="o", markersize=3.5, label=label)
    if max(level["p99_ms"] for level in levels) > MANY * min(level["p50_ms"] for level in levels):
        log_latency(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("latency, ms")
    legend(axes, ncols=max(2, len(lines)))


def draw_throughput(axes: Axes, levels: list[dict[str, Any]]) -> None:
    """Inferences/s from 0, a line for each series."""
    for name, colour, points, places in by_load(axes, levels):
        values = [level["throughput"] for level in points]
        axes.plot(places, values, color=colour, marker="o", label=name)
    from_zero(axes, [level["throughput"] for level in levels])
    axes.set_ylabel("inferences a second")
    legend(axes)


def stage_times(level: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of a mean request in each of `STAGES`; 0 for what perf_analyzer does not tell."""
    return {
        name: sum(level["breakdown_us"].get(column, 0.0) for column in columns) / 1000
        for name, columns in STAGES.items()
    }


def draw_stages(axes: Axes, levels: list[dict[str, Any]]) -> None:
    """A bar for each level, milliseconds."""
    stacked_bars(axes, [(short(level), stage_times(level)) for level in levels], list(STAGES))
    axes.set_xlabel("mean milliseconds of a request; of an ensemble, infer is all of its steps")
    axes.set_ylabel("concurrency" if levels[0]["concurrency"] else "requests a second")


def draw_batches(axes: Axes, levels: list[dict[str, Any]], names: list[str]) -> None:
    """Inferences per execution, a line for each of these models."""
    labels = [short(level) for level in levels]
    for colour, name in zip(COLOURS, names, strict=False):
        values = [batch_sizes(level).get(name, math.nan) for level in levels]
        axes.plot(labels, values, color=colour, marker="o", label=name)
    from_zero(axes, [size for level in levels for size in batch_sizes(level).values()])
    axes.set_xlabel("concurrency" if levels[0]["concurrency"] else "requests a second")
    axes.set_ylabel("inferences per execution")
    legend(axes)


def table(levels: list[dict[str, Any]], names: list[str]) -> Table:
    """A row for each level; milliseconds, but microseconds of stages."""
    stages = [name for name in BREAKDOWN if any(name in level["breakdown_us"] for level in levels)]
    headings = ["over, load", "infer/s", *(f"p{p} ms" for p in PERCENTILES)]
    headings += [f"batch of {name}" for name in names] + [f"{name}, us" for name in stages] + ["stable"]
    rows = [
        [
            described(level),
            number(level["throughput"]),
            *(number(level[f"p{p}_ms"]) for p in PERCENTILES),
            *(number(batch_sizes(level).get(name)) for name in names),
            *(f"{level['breakdown_us'].get(name, 0):.0f}" for name in stages),
            "yes" if level["stable"] else "no",
        ]
        for level in levels
    ]
    return Table("Every level", headings, rows)
