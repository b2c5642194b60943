"""What a search for a better policy tried and decided."""

from typing import Any

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table, number
from perf.report.style import COLOURS, INK, direct_label, legend
from perf.summaries.tune import policy_words

__all__ = ["section"]


def section(raw: RawResult) -> Section:
    """Of kind "tune": p99 over throughput of every policy tried, and the finals."""
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
        for policy, mark, label in (
            (raw["current"], "s", "policy as it was"),
            (raw["winner"], "*", "winner"),
        ):
            for level in (level for trial, level in measured if trial["policy"] == policy):
                size = 17 if mark == "*" else 13
                place = [level["throughput"]], [level["p99_ms"]]
                axes.plot(*place, mark, color=INK, fillstyle="none", markersize=size)
                direct_label(axes, label, level["throughput"], level["p99_ms"], INK, (9, 7))
        if limit:
            axes.axhline(limit, color=COLOURS[1], linestyle="--", linewidth=1, label=f"limit, {limit:g} ms")
        axes.set_ylim(0, 1.15 * max([limit or 0, *(level["p99_ms"] for _, level in measured)]))
        axes.set_xlabel("inferences a second, the best level of each policy tried")
        axes.set_ylabel("p99, ms")
        axes.set_xlim(0, 1.15 * max(level["throughput"] for _, level in measured))
        legend(axes)

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
    goal = f"{objective['name']}{f', p99 up to {limit:g} ms' if limit else ''}"
    return Section(
        f"Tuning of {model}",
        verdict(raw),
        f"Objective: {goal}. {len(trials)} policies were tried, {len(raw['rounds'])} rounds of finals. "
        f"Before: {policy_words(raw['current'])}.",
        [raw.content["undecided"]] if raw.content.get("undecided") else [],
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


def verdict(raw: RawResult) -> str:
    """What was decided."""
    if raw.content.get("undecided"):
        return "Undecided: other programs disturbed the rounds."
    if not raw["winner"]:
        return "The policy stays: nothing was better beyond the noise."
    ratios = [one["median"] for one in raw["verdicts"] if one["policy"] == raw["winner"]]
    gain = f"{ratios[0]:.2f} times as good" if ratios else "better"
    return f"The winner is {gain}: {policy_words(raw['winner'])}."


def best(trial: dict[str, Any], limit: float | None) -> dict[str, Any] | None:
    """The level of most throughput within the limit; of lowest p99 if none is."""
    levels: list[dict[str, Any]] = [level for level in trial["levels"] if level]
    within = [level for level in levels if not limit or level["p99_ms"] <= limit]
    if within:
        return max(within, key=lambda level: level["throughput"])
    return min(levels, key=lambda level: level["p99_ms"], default=None)
