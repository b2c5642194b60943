"""A model beside itself without dynamic batching."""

import pytest

from perf.benchmarks.batching import two_copies
from perf.harness.errors import PerfError
from perf.harness.inputs import read_config
from tests.conftest import ROOT

REPOSITORY = ROOT / "model_repository"


def test_a_model_without_batching_is_the_same_but_for_that(tmp_path):
    repository = two_copies("efficientnet_lite0", REPOSITORY, tmp_path)
    with_it, without = (
        read_config(name, repository) for name in sorted(p.name for p in repository.iterdir())
    )
    assert with_it.HasField("dynamic_batching")
    assert not without.HasField("dynamic_batching")
    without.name = with_it.name
    with_it.ClearField("dynamic_batching")
    assert with_it == without
    with pytest.raises(PerfError, match="no dynamic_batching to do without"):
        two_copies("text_stream", REPOSITORY, tmp_path / "other")
