"""Dynamic batching on and off."""

from typing import Any

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS
from perf.summaries.batching import medians

__all__ = ["section"]


def section(raw: RawResult) -> Section:
    """Of kind "batching": bars of both sides with a mark for each round, and every round."""
    on, off, ratio = medians(raw)
    name = raw["model"]["name"]

    def draw(axes: Axes) -> None:
        for position, (side, colour) in enumerate(
            zip(("without", "with"), (COLOURS[1], COLOURS[0]), strict=True)
        ):
            rates = [one[side]["throughput"] for one in raw["rounds"]]
            axes.barh([f"{side} batching"], [off if side == "without" else on], height=0.5, color=colour)
            axes.plot(rates, [position] * len(rates), "|", color="#1b1b1f", markersize=12)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("inferences a second; bars: medians, marks: rounds")

    rows = [
        [
            str(number_),
            *(number(one[side]["throughput"]) for side in ("with", "without")),
            number(one["with"]["throughput"] / one["without"]["throughput"]),
            *(number(one[side]["p99_ms"]) for side in ("with", "without")),
            number(batch(one["with"])),
        ]
        for number_, one in enumerate(raw["rounds"], 1)
    ]
    headings = ["round", "with, infer/s", "without", "ratio", "p99 ms with", "without", "batch"]
    return Section(
        f"Dynamic batching on and off: {name}",
        f"Dynamic batching makes {name} {ratio:.2f} times as fast.",
        f"{number(on)} inferences a second with it, {number(off)} without (concurrency {raw['concurrency']}, "
        f"{raw['transport']}, {len(raw['rounds'])} alternating rounds).",
        [],
        [Figure("batching", f"{name}, concurrency {raw['concurrency']}", draw, height=1.8)],
        [Table("Every round", headings, rows)],
    )


def batch(level: dict[str, Any]) -> float:
    """Inferences per execution, over all models of a level."""
    inferences: int = sum(model["inferences"] for model in level["models"].values())
    executions: int = sum(model["executions"] for model in level["models"].values())
    return inferences / max(1, executions)
