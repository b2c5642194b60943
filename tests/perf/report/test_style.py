"""Figures: nothing covers anything, axes are readable, and what was decided is marked."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perf.harness.raw import load
from perf.report.kinds import KINDS
from perf.report.kinds import section as section_of
from perf.report.style import titled
from tests.conftest import ROOT
from tests.perf.report.made_up import level, raws, run_of, tuned

COMMITTED = sorted((ROOT / "perf" / "results").glob("*.json"))


def looks_right(figure):
    """Nothing covers the title or another legend, all of it is within the picture, and ticks are numbers."""
    canvas = titled(figure)
    FigureCanvasAgg(canvas).draw()
    axes = canvas.axes[0]
    title = axes._left_title.get_window_extent()
    legends = [legend.get_window_extent() for legend in (*canvas.legends, axes.get_legend()) if legend]
    assert title.height
    for legend in legends:
        assert not legend.overlaps(title)
        assert not legend.overlaps(axes.get_window_extent())
    for box in (title, *legends):
        assert canvas.bbox.containsx(box.x0 + 1)
        assert canvas.bbox.containsx(box.x1 - 1)
        assert canvas.bbox.containsy(box.y0 + 1)
        assert canvas.bbox.containsy(box.y1 - 1)
    ticks = [tick.get_text() for tick in (*axes.get_xticklabels(), *axes.get_yticklabels(which="both"))]
    assert any(ticks)
    assert not any("$" in tick or "e+" in tick for tick in ticks)  # 6x10^1, 2.05e+03


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_every_committed_result_has_what_its_kind_needs(path):
    raw = load(path)
    section = section_of(path, raw)
    assert bool(section.verdict) == (raw.kind in KINDS)  # of the others there are numbers alone
    for figure in section.figures:
        looks_right(figure)


@pytest.mark.parametrize("name", [name for name in raws() if name != "surprise"])
def test_figures_of_every_kind_look_right(name, tmp_path):
    figures = section_of(tmp_path / f"{name}.json", raws()[name]).figures
    assert figures
    for figure in figures:
        looks_right(figure)


def test_lines_over_many_loads_do_not_double_back(tmp_path):
    """Throughput falls again beyond its peak; what is drawn goes from left to right all the same."""
    rates = {1: 80.0, 4: 200.0, 8: 150.0, 32: 190.0}
    levels = [level(c, rate, p50_ms=c * 5.0, p99_ms=c * 9.0) for c, rate in rates.items()]
    for figure in section_of(tmp_path / "run.json", run_of(levels)).figures:
        for line in titled(figure).axes[0].get_lines():
            places = list(line.get_xdata(orig=False))
            assert places == sorted(places)


def test_the_winner_of_a_tuning_is_marked(tmp_path):
    def words(raw):
        (figure,) = section_of(tmp_path / "tune.json", raw).figures
        return {text.get_text() for text in titled(figure).axes[0].texts}

    raw = tuned()
    assert words(raw) == {"policy as it was"}
    raw.content["winner"] = raw["trials"][0]["policy"]
    assert "winner" in words(raw)
