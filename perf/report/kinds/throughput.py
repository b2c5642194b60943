"""Served against in-process throughput of one model."""

import statistics

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS, legend
from perf.summaries.throughput import over, ratios

__all__ = ["section"]


def section(raw: RawResult) -> Section:
    """Of kind "throughput": both sides of every round, and their ratio."""
    rounds = raw["rounds"]
    model, way, found = raw["model"]["name"], over(raw), ratios(raw)

    def draw(axes: Axes) -> None:
        numbers = range(1, len(rounds) + 1)
        for offset, (key, label) in zip(
            (-0.18, 0.18), (("in_process", "in-process"), ("throughput", "served")), strict=True
        ):
            heights = [one[key] for one in rounds]
            colour = COLOURS[1 if key == "in_process" else 0]
            axes.bar([n + offset for n in numbers], heights, width=0.34, label=label, color=colour)
        axes.set_xticks(list(numbers))
        axes.grid(axis="x", visible=False)
        axes.margins(y=0.15)
        axes.set_xlabel("round")
        axes.set_ylabel("inferences a second")
        legend(axes)

    rows = [
        [
            str(n),
            *(number(value) for value in (one["in_process"], one["throughput"])),
            f"{ratio:.3f}",
            number(one["p50_ms"]),
            number(one["p99_ms"]),
        ]
        for n, (one, ratio) in enumerate(zip(rounds, found, strict=True), 1)
    ]
    return Section(
        f"Served against in-process: {model} over {way}",
        f"Served reaches {statistics.median(found):.3f} of in-process ONNX Runtime ({min(found):.3f} to "
        f"{max(found):.3f}).",
        f"At concurrency {raw['concurrency']}, with {raw['sessions']} session(s) of "
        f"{raw['threads']} thread(s); in-process at its best batch size, {raw['in_process_batch']}.",
        [],
        [Figure("throughput", f"{model} over {way}, round by round", draw, height=3.2)],
        [Table("Every round", ["round", "in-process, infer/s", "served", "ratio", "p50 ms", "p99 ms"], rows)],
    )
