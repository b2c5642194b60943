"""How faithful heatmaps are: what is left of a class while the hottest places go, or come."""

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table
from perf.report.style import COLOURS, legend
from perf.summaries.explanations import CURVES, METHODS, WHERE, beaten, mean_curve, measured

__all__ = ["section"]


def section(raw: RawResult) -> Section:
    """The shares of photographs, and mean curves."""
    found = {method: beaten(raw, method) for method in measured(raw)}
    rows = [
        [f"{WHERE[one.where]}, {METHODS[method]}, {one.baseline}", *(f"{share:.0%}" for share in one.shares)]
        for method, wins in found.items()
        for one in wins
    ]
    method, wins = list(found.items())[-1]
    last = [one for one in wins if one.where == wins[-1].where]
    least = min(min(one.shares) for one in last)
    hits = [hit for one in raw["photographs"] if one["where"] == "off-centre" for hit in one["pointed"]]
    corners = (
        f"; the hottest place lies in the photograph in {sum(hits)} of {len(hits)} corners" if hits else ""
    )
    return Section(
        "Explanations: deletion and insertion",
        f"{WHERE[last[0].where].capitalize()}, {METHODS[method]} beat every baseline on {least:.0%} of the "
        "photographs or more.",
        f"{last[0].photographs} labelled photographs, {raw['steps']} steps, {raw['random_orders']} random "
        f"maps each{corners}.",
        figures=[
            _figure(raw, where, curve)
            for where in dict.fromkeys(one.where for one in wins)
            for curve in CURVES
        ],
        tables=[Table("Photographs on which the order is better", ["than", *CURVES], rows)],
    )


def _figure(raw: RawResult, where: str, curve: str) -> Figure:
    photographs = [one for one in raw["photographs"] if one["where"] == where]

    def draw(axes: Axes) -> None:
        for colour, method in zip(COLOURS, photographs[0]["curves"], strict=False):
            values = mean_curve(photographs, method, curve)
            shares = [100 * step / (len(values) - 1) for step in range(len(values))]
            axes.plot(shares, values, color=colour, label=method, linewidth=2 if method == "heatmap" else 1.2)
        axes.set_xlabel(f"{'blurred' if curve == 'deletion' else 'brought back'}, % of the pixels")
        axes.set_ylabel("of the class's probability")
        axes.set_ylim(0)
        legend(axes)

    name = f"{curve}-{'as-they-are' if where == 'as they are' else where}"
    return Figure(name, f"{curve.capitalize()}, {WHERE[where]}", draw, height=3)
