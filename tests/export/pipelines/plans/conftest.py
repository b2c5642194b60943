"""The two small models, published, and a machine that seems to have a GPU."""

import subprocess

import pytest

from export.pipelines.pytorch import export_model
from tests.export.pipelines.plans.models import SPECS
from tests.stand_ins import install


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    repository = tmp_path_factory.mktemp("published")
    for spec in SPECS.values():
        export_model(spec, repository, random_weights=True)
    return repository


@pytest.fixture
def repository(published, tmp_path, monkeypatch):
    """A copy of the exported models, and a cache of its own."""
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "a cache"))
    subprocess.run(["cp", "-r", published, tmp_path / "models"], check=True)
    return tmp_path / "models"


@pytest.fixture
def gpu_machine(tmp_path, monkeypatch):
    def become(**stand_ins):
        monkeypatch.setenv("PATH", install(tmp_path / "bin", **stand_ins))

    return become
