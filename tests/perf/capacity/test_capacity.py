"""Capacity: the simulation gives textbook results, batches as Triton does, and plans follow from it.

What a calibration measures is not asserted, only that the simulation can draw from it.
"""

import json

import numpy as np
import pytest

from perf.capacity import capacity, planning
from perf.capacity.simulation import ExecutionTimes, Observed
from perf.cli import main
from perf.harness.raw import record, save
from tests.conftest import ROOT

REPOSITORY = ROOT / "model_repository"


@pytest.fixture
def calibrated(tmp_path, monkeypatch):
    """A file as a calibration writes it, of a made-up machine; simulations of it are short."""
    monkeypatch.setattr(planning, "REQUESTS", 2000)
    times = np.random.default_rng(0).gamma(100, 6e-5, 300)
    pools = {(size, k): np.stack([times, times], 1) * size for size in (1, 4) for k in (0, 1)}
    one = Observed({"efficientnet_lite0": ExecutionTimes(pools)}, 2, fixed_s=3e-4)
    raw = record(
        "capacity",
        model=capacity.model_facts(REPOSITORY, "efficientnet_lite0"),
        composing=[],
        bytes={"request": {"JPEG": 95_000, "pixels": 150_528}, "answer": 4000},
        observed=one.as_json(),
        comparison=[],
    )
    save(tmp_path / "raw.json", raw)
    return tmp_path / "raw.json"


@pytest.mark.slow
def test_a_calibration_answers_without_measuring(calibrated, capsys):
    assert main(["capacity", "--rate=5000", f"--from={calibrated}", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (size,) = answer["replicas"]
    rows = {row["rate"]: row for row in size["plans"]["JPEG"]}
    assert sorted(rows) == [100, 1000, 5000, 10_000, 100_000, 1_000_000]
    assert rows[5000]["replicas_n_plus_1"] == rows[5000]["replicas"] + 1
    assert rows[5000]["replicas"] == -(-5000 // size["capacity"]["rate"])
    assert main(["capacity", "--rate=5000", f"--from={calibrated}"]) == 0
    assert "replicas" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate=0"], "--rate is above 0"),
        (["--slo-p99-ms=3"], "no number of replicas reaches a p99 of 3 ms"),
        (["--slo-p99-ms=0"], "an SLO is above 0 ms"),
        (["--check"], "--measure --check"),
        (["mobilenet_v2"], "is a calibration of efficientnet_lite0, not of mobilenet_v2"),
    ],
)
def test_what_cannot_be_planned_is_said(calibrated, capsys, arguments, message):
    assert main(["capacity", *arguments, f"--from={calibrated}"]) == 1
    assert message in capsys.readouterr().err


def test_without_a_calibration_the_command_that_takes_one_is_named(tmp_path, capsys):
    assert main(["capacity", f"--from={tmp_path / 'none.json'}"]) == 1
    assert "--measure` takes one" in capsys.readouterr().err
