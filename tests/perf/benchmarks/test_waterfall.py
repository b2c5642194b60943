"""Where the time of one request goes."""

import pytest

from perf.benchmarks.waterfall import stages


def test_stages_of_an_ensemble_add_up_to_the_latency():
    times = {"queue_us": 100.0, "input_us": 10.0, "infer_us": 1000.0, "output_us": 20.0}
    one = {
        "windows": [[1.0, 4000.0], [1.0, 4200.0]],
        "breakdown_us": {"Client Send": 30.0, "Client Recv": 10.0},
        "models": {
            "whole": {**times, "request_us": 3000.0},
            "image_decoder": {**times, "request_us": 1150.0},
            "cnn": {**times, "request_us": 1140.0},
        },
    }
    found = stages(one, "whole")
    assert found["decode"] == found["infer"] == 1.0
    assert found["between models"] == pytest.approx(0.71)
    assert sum(found.values()) == pytest.approx(4.1, abs=0.04)  # but for what Triton leaves out of its parts
