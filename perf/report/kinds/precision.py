"""A lighter sibling against its FP32 model."""

import statistics

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS, legend

__all__ = ["section"]


def section(raw: RawResult) -> Section:
    """Of kind "precision": items/s of both models in each setting; the verdict is of the served one."""
    fp32, lighter = (model["name"] for model in raw["models"])
    measured = {
        f"in-process, one thread, batch {batch}": rounds for batch, rounds in raw["in_process"].items()
    }
    served = [[level["throughput"] for level in levels] for levels in raw["served"]]
    measured[f"gRPC, concurrency {raw['concurrency']}"] = served
    rows, last = [], 0.0
    for where, rounds in measured.items():
        ratios = [ours / theirs for theirs, ours in rounds]
        last = statistics.median(ratios)
        medians = [number(statistics.median(rates)) for rates in zip(*rounds, strict=True)]
        rows.append([where, *medians, f"{last:.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"])

    def draw(axes: Axes) -> None:
        for offset, colour, name, side in ((0.18, COLOURS[1], fp32, 0), (-0.18, COLOURS[0], lighter, 1)):
            rates = [statistics.median(one[side] for one in rounds) for rounds in measured.values()]
            axes.barh([place + offset for place in range(len(rates))], rates, 0.34, color=colour, label=name)
        axes.set_yticks(range(len(measured)), list(measured))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("items a second")
        legend(axes)

    return Section(
        f"Lighter: {lighter}",
        f"Served, {lighter} is {last:.2f} times as fast as {fp32}.",
        f"{len(served)} alternating rounds, the median of their ratios.",
        figures=[Figure("precision", f"{fp32} and {lighter}, medians", draw, height=3)],
        tables=[Table("Items a second", ["where", fp32, lighter, "ratio", "range"], rows)],
    )
