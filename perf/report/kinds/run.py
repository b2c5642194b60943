"""Levels of load: throughput against latency, where time goes, and how large batches were."""

import math
from typing import Any

from matplotlib.axes import Axes

from perf.harness.load import BREAKDOWN, PERCENTILES
from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS, direct_label, from_zero, stacked_bars
from perf.summaries.run import batch_sizes, described, medians, series

__all__ = ["section"]

LINES = {"p50_ms": ":", "p95_ms": "--", "p99_ms": "-"}
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
    levels = medians(raw["levels"])
    doubtful = [level for level in levels if not level["stable"]]
    best = max(levels, key=lambda level: level["throughput"])
    figures = [Figure("latency", "Throughput against latency", lambda axes: draw_latency(axes, levels))]
    first = [level for level in levels if series(level) == series(levels[0])]
    if all(level["breakdown_us"] for level in first):
        figures.append(
            Figure(
                "stages",
                f"Where the time of a request goes, {series(first[0])}",
                lambda axes: draw_stages(axes, first),
                height=1.4 + 0.42 * len(first),
            )
        )
    names = sorted({name for level in first for name in batch_sizes(level)})
    if names:
        figures.append(
            Figure("batches", "Inferences an execution", lambda axes: draw_batches(axes, first, names))
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
        f"{number(best['p99_ms'])} ms). Sent: {raw['inputs']['content']}.",
        doubts,
        figures,
        [table(levels, names)],
    )


def short(level: dict[str, Any]) -> str:
    return str(level["concurrency"]) if level["concurrency"] else f"{level['request_rate']:g}/s"


def draw_latency(axes: Axes, levels: list[dict[str, Any]]) -> None:
    groups = list(dict.fromkeys(map(series, levels)))
    for colour, name in zip(COLOURS, groups, strict=False):
        points = [level for level in levels if series(level) == name]
        for key, line in LINES.items():
            axes.plot(
                [level["throughput"] for level in points],
                [level[key] for level in points],
                line,
                color=colour,
                marker="o",
                markersize=3.5,
                label=f"{name} {key.removesuffix('_ms')}",
            )
        for level in points:
            direct_label(axes, short(level), level["throughput"], level["p99_ms"], colour)
    worst = [level["p99_ms"] for level in levels]
    if max(worst) > MANY * min(level["p50_ms"] for level in levels):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("inferences a second; beside the points: concurrency, or the rate asked for")
    axes.set_ylabel("latency, ms")
    axes.legend(ncols=len(groups), fontsize=8)


def stage_times(level: dict[str, Any]) -> dict[str, float]:
    return {
        name: sum(level["breakdown_us"].get(column, 0.0) for column in columns) / 1000
        for name, columns in STAGES.items()
    }


def draw_stages(axes: Axes, levels: list[dict[str, Any]]) -> None:
    stacked_bars(axes, [(short(level), stage_times(level)) for level in levels], list(STAGES))
    axes.set_xlabel("mean milliseconds of a request; of an ensemble, infer is all of its steps")
    axes.set_ylabel("concurrency" if levels[0]["concurrency"] else "requests a second")


def draw_batches(axes: Axes, levels: list[dict[str, Any]], names: list[str]) -> None:
    labels = [short(level) for level in levels]
    for colour, name in zip(COLOURS, names, strict=False):
        values = [batch_sizes(level).get(name, math.nan) for level in levels]
        axes.plot(labels, values, color=colour, marker="o", label=name)
    from_zero(axes, [size for level in levels for size in batch_sizes(level).values()])
    axes.set_xlabel("concurrency" if levels[0]["concurrency"] else "requests a second")
    axes.set_ylabel("inferences an execution")
    axes.legend(fontsize=8)


def table(levels: list[dict[str, Any]], names: list[str]) -> Table:
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
