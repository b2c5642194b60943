"""What a search for a better policy tried and decided."""

from typing import Any

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS
from perf.summaries.tune import policy_words

__all__ = ["section"]


def section(raw: RawResult) -> Section:
    model = raw["model"]["name"]
    objective = raw["objective"]
    limit = objective.get("slo_p99_ms")
    trials = [(trial, best(trial, limit)) for trial in raw["trials"]]
    measured = [(trial, level) for trial, level in trials if level]

    def draw(axes: Axes) -> None:
        for colour, stage in zip(
            COLOURS, dict.fromkeys(trial["stage"] for trial, _ in measured), strict=False
        ):
            points = [level for trial, level in measured if trial["stage"] == stage]
            axes.plot(
                [level["throughput"] for level in points],
                [level["p99_ms"] for level in points],
                "o",
                color=colour,
                label=stage,
            )
        if limit:
            axes.axhline(limit, color=COLOURS[1], linestyle="--", linewidth=1)
            axes.annotate("limit", (0, limit), (4, 3), textcoords="offset points", fontsize=8)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("inferences a second, the best level of each policy tried")
        axes.set_ylabel("p99, ms")
        axes.legend(fontsize=8)

    rows = [
        [policy_words(trial["policy"]), trial["stage"]]
        + ([number(level["throughput"]), number(level["p99_ms"])] if level else ["", ""])
        + [trial["error"] or trial["dropped"] or ""]
        for trial, level in trials
    ]
    verdicts = [
        [
            policy_words(one["policy"]),
            number(one["median"]),
            number(one["bound"]),
            "yes" if one["better"] else "no",
            one["reason"],
        ]
        for one in raw["verdicts"]
    ]
    winner = raw["winner"]
    told = f"The winner: {policy_words(winner)}." if winner else "Nothing was better beyond the noise."
    return Section(
        f"Tuning of {model}",
        f"Objective: {objective['name']}{f', p99 up to {limit:g} ms' if limit else ''}. "
        f"{len(trials)} policies were tried. {told} Before: {policy_words(raw['current'])}.",
        [],
        [Figure("trials", f"Policies tried: {model}", draw)] if measured else [],
        [
            Table(
                "Finalists against the policy as it was",
                ["policy", "ratio", "bound", "better", "why"],
                verdicts,
            ),
            Table("Every policy tried", ["policy", "stage", "infer/s", "p99 ms", ""], rows, left=2),
        ],
    )


def best(trial: dict[str, Any], limit: float | None) -> dict[str, Any] | None:
    """The level of most throughput within the limit; of lowest p99 if none is."""
    levels: list[dict[str, Any]] = [level for level in trial["levels"] if level]
    within = [level for level in levels if not limit or level["p99_ms"] <= limit]
    if within:
        return max(within, key=lambda level: level["throughput"])
    return min(levels, key=lambda level: level["p99_ms"], default=None)
