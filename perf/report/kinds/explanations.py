"""How faithful heatmaps are: what is left of a class while the hottest places go, or come."""

from matplotlib.axes import Axes

from perf.harness.raw import RawResult
from perf.report.content import Figure, Section, Table
from perf.report.style import COLOURS, legend
from perf.summaries.explanations import CURVES, WHERE, beaten, mean_curve

__all__ = ["section"]


def section(raw: RawResult) -> Section:
    """The shares of photographs, and mean curves."""
    found = beaten(raw)
    rows = [
        [f"{WHERE[one.where]}, {one.baseline}", *(f"{share:.0%}" for share in one.shares)] for one in found
    ]
    best = min(min(one.shares) for one in found if one.where == "off-centre")
    count = found[0].photographs
    hits = [hit for one in raw["photographs"] if one["where"] == "off-centre" for hit in one["pointed"]]
    figures = [_figure(raw, where, curve) for where in WHERE for curve in CURVES]
    return Section(
        "Explanations: deletion and insertion",
        f"Pasted off-centre, heatmaps beat every baseline on {best:.0%} of the photographs or more.",
        f"{count} labelled photographs, {raw['steps']} steps, {raw['random_orders']} random maps each; the "
        f"hottest place lies in the photograph in {sum(hits)} of {len(hits)} corners.",
        figures=figures,
        tables=[Table("Photographs on which the heatmap is better", ["than", *CURVES], rows)],
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
