"""Deletion, insertion and the pointing game: what is counted, and a short run against the real server."""

import json

import numpy as np
import pytest

from perf.benchmarks.explanations import areas_of, orders, stages
from perf.cli import main
from perf.harness.raw import load, record
from perf.summaries.explanations import Beaten, beaten, mean_curve, measured
from tests.conftest import ROOT

SIDE = 8
BLACK, WHITE = (np.full((SIDE, SIDE, 3), level, np.uint8) for level in (0, 255))


def heat(row, column):
    found = np.full((SIDE, SIDE), -1.0)
    found[row, column] = 5.0
    return found


def test_the_hottest_pixels_change_first():
    images = stages(BLACK, WHITE, heat(2, 3), SIDE * SIDE)
    assert images.shape == (SIDE * SIDE + 1, SIDE, SIDE, 3)
    assert np.argwhere(images[1].any(2)).tolist() == [[2, 3]]
    assert [int((image == 255).sum() / 3) for image in images] == list(range(SIDE * SIDE + 1))
    assert (stages(BLACK, WHITE, heat(2, 3), 3)[-1] == WHITE).all()


def test_baselines_do_not_look():
    found = list(orders(heat(0, 0), np.random.default_rng(0), 2))
    assert [name for name, _ in found] == ["heatmap", "centre", "random map", "random map", "random pixels"]
    centre = dict(found)["centre"]
    assert centre.max() == centre[3, 3] == centre[4, 4]
    assert centre.min() == centre[0, 0]
    assert not np.array_equal(found[2][1], found[3][1])


@pytest.mark.parametrize(
    ("values", "area"), [([1, 1, 1], 1), ([1, 0], 0.5), ([1, 0, 0], 0.25), ([0, 0, 1], 0.25)]
)
def test_areas_are_of_trapezoids(values, area):
    assert areas_of({"a": {"deletion": values}}) == {"a": {"deletion": area}}


def photograph(name, where, heatmap, centre):
    """Areas of deletion and insertion."""
    pairs = {"heatmap": heatmap, "centre": centre}
    return {
        "name": name,
        "where": where,
        "probability": 0.5,
        "areas": {
            key: dict(zip(("deletion", "insertion"), pair, strict=True)) for key, pair in pairs.items()
        },
        "curves": {"heatmap": {"deletion": [0.5, 0.25]}},
    }


def test_less_is_better_in_deletion_and_more_in_insertion():
    raw = record(
        "explanations",
        photographs=[
            photograph("a", "as they are", (0.1, 0.9), (0.2, 0.8)),
            photograph("b", "as they are", (0.3, 0.9), (0.2, 0.8)),
            photograph("c", "as they are", (0.2, 0.8), (0.2, 0.8)),  # no better
            photograph("a", "off-centre", (0.1, 0.1), (0.2, 0.8)),
        ],
    )
    assert beaten(raw) == [Beaten("as they are", "centre", 1, 2, 3), Beaten("off-centre", "centre", 1, 0, 1)]
    assert beaten(raw)[0].shares == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert measured(raw) == ["heatmap"]
    assert mean_curve(raw["photographs"], "heatmap", "deletion") == [1.0, 0.5]


def test_masked_copies_are_compared_with_baselines_and_are_none():
    one = photograph("a", "as they are", (0.3, 0.9), (0.2, 0.8))
    one["areas"]["masked copies"] = {"deletion": 0.1, "insertion": 0.7}
    raw = record("explanations", photographs=[one])
    assert measured(raw) == ["heatmap", "masked copies"]
    assert beaten(raw) == [Beaten("as they are", "centre", 0, 1, 1)]
    assert beaten(raw, "masked copies") == [Beaten("as they are", "centre", 1, 0, 1)]


@pytest.mark.slow
def test_a_short_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    output = tmp_path / "explanations.json"
    short = ["--photographs=1", "--steps=2", "--random=1", "--masks=50"]
    assert main(["explanations", *short, "--json", f"--output={output}"]) == 0
    told = capsys.readouterr()
    assert "1 of 1: imagenet_00_243" in told.err
    raw = load(output, "explanations")
    assert json.loads(told.out)["photographs"] == raw["photographs"]
    assert raw["model"]["name"] == "explain_objects"
    assert "efficientnet_lite0_cam" in [one["name"] for one in raw["composing"]]
    whole, moved = raw["photographs"]
    assert whole["probability"] > 0.5
    for curves in whole["curves"].values():
        assert curves["deletion"][0] == pytest.approx(whole["probability"], abs=1e-4)
        assert curves["insertion"][-1] == pytest.approx(whole["probability"], abs=1e-4)
        assert curves["deletion"][-1] == pytest.approx(curves["insertion"][0], abs=1e-4)
    assert whole["areas"]["heatmap"]["deletion"] < whole["areas"]["random map"]["deletion"]
    assert measured(raw) == ["heatmap", "masked copies"]
    assert whole["areas"]["masked copies"]["deletion"] < whole["areas"]["random map"]["deletion"]
    assert whole["pointed"] == [True]  # it is all of the image
    assert len(moved["pointed"]) == len(moved["heat_inside"]) == 4


def test_the_committed_result_holds_what_the_page_says():
    """docs/why/explanations.md has these figures."""
    raw = load(ROOT / "perf" / "results" / "explanations.json", "explanations")
    page = (ROOT / "docs" / "why" / "explanations.md").read_text()
    for one in beaten(raw):
        where = {"as they are": "as photographed", "off-centre": "off-centre"}[one.where]
        row = f"| {where} | {one.baseline} | {one.deletion} | {one.insertion} |"
        assert row in page, row
    hits = [hit for one in raw["photographs"] if one["where"] == "off-centre" for hit in one["pointed"]]
    assert f"{sum(hits)} of {len(hits)}" in page


def test_what_the_page_says_of_masked_copies_is_committed():
    raw = load(ROOT / "perf" / "results" / "explanations-masked.json", "explanations")
    page = (ROOT / "docs" / "why" / "explanations.md").read_text()
    for one in raw["photographs"]:
        for curve, values in one["curves"]["masked copies"].items():
            assert areas_of({"": {"": values}})[""][""] == pytest.approx(
                one["areas"]["masked copies"][curve], abs=1e-4
            )
    for one in beaten(raw, "masked copies"):
        row = f"| masked copies | {one.baseline} | {one.deletion} | {one.insertion} |"
        assert row in page, row


def test_without_photographs_nothing_is_measured(capsys):
    assert main(["explanations", "--photographs=0"]) == 1
    assert "take 1 or more" in capsys.readouterr().err
