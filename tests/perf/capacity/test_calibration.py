"""A calibration: what it measures is not asserted, only that the simulation can draw from it."""

import pytest

from perf.capacity import calibration
from perf.capacity.simulation import simulate
from perf.harness.errors import PerfError
from perf.harness.load import Load
from perf.harness.serving import configured
from tests.conftest import ROOT

REPOSITORY = ROOT / "model_repository"


def test_models_of_the_repository_are_read_and_others_refused():
    stations = calibration.batchings("recognize_objects", REPOSITORY)
    assert list(stations) == ["recognize_objects"]
    assert stations["recognize_objects"].max_queue_size == 256
    with configured(""):
        assert list(calibration.batchings("recognize_objects", REPOSITORY)) == [
            "image_decoder",
            "efficientnet_lite0",
        ]
    for model, reason in (("text_stream", "sequences"), ("read_text", "calls other models")):
        with pytest.raises(PerfError, match=reason):
            calibration.batchings(model, REPOSITORY)


@pytest.mark.slow
def test_a_short_calibration_can_be_drawn_from(tmp_path, monkeypatch):
    one = calibration.Calibrator("efficientnet_lite0", REPOSITORY, tmp_path)
    one.traced(Load(4), 0.3)
    load, times = calibration.Arrivals.poisson(30, 2.0, 1, tmp_path)
    assert load.intervals.read_text().count("\n") == len(times)
    one.traced(load, 0.5)
    found = one.observed()
    assert {size for size, _ in found.executions["efficientnet_lite0"].pools} <= set(range(1, 33))
    assert simulate(found, one.batchings, times).percentile_ms(50) > 0
