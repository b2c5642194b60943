"""Profiles make sense, and options change them."""

import pytest

from perf.benchmarks.profiles import LoadProfile, get_profile, read_profiles
from perf.harness.errors import PerfError
from perf.harness.inputs import read_config
from perf.harness.load import Load
from tests.conftest import ROOT

REPOSITORY = ROOT / "model_repository"


def test_all_profiles_name_models_that_there_are():
    for profile in read_profiles().values():
        if ".py:" in profile.model:
            assert (ROOT / profile.model.partition(":")[0]).is_file()
        else:
            read_config(profile.model, REPOSITORY)
        assert profile.loads(100.0)
        assert profile.title


def test_a_profile_with_a_word_that_means_nothing_is_refused(tmp_path):
    path = tmp_path / "profiles.toml"
    path.write_text('[a]\nmodel = "m"\nconcurency = [1]\n')
    with pytest.raises(PerfError, match=r"profile 'a'.* not concurency"):
        read_profiles(path)
    path.write_text('[a]\nmodel = "m"\nconcurrency = [1]\nshare = [0.5]\n')
    with pytest.raises(PerfError, match="not concurrency and share"):
        get_profile("a", path)
    path.write_text("[a\n")
    with pytest.raises(PerfError, match="holds no profiles"):
        read_profiles(path)


def test_an_option_replaces_the_levels_of_a_profile():
    profile = LoadProfile("a", "m", concurrency=(1, 2)).changed(share=(0.5,), distribution=("poisson",))
    assert profile.loads(80.0) == [Load(request_rate=40.0, distribution="poisson")]
