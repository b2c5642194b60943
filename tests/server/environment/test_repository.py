"""How a model repository on disk is read before a server looks at it."""

import os
import subprocess
import sys

import pytest

from server.environment.repository import config_fields, config_text, repository_models, served_versions
from tests.conftest import ROOT
from tests.processes import unprivileged

ENSEMBLE = 'platform: "ensemble"\nensemble_scheduling { step { model_name: "m" model_version: -1 } }\n'


def test_a_byte_order_mark_hides_nothing(tmp_path):
    """Triton stops at it; what the config is meant to be is told all the same."""
    for name, mark in (("marked", "\ufeff"), ("plain", "")):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(mark + ENSEMBLE, encoding="utf-8")
    assert [(model.name, model.is_ensemble, model.steps) for model in repository_models(tmp_path)] == [
        ("marked", True, ("m",)),
        ("plain", True, ("m",)),
    ]
    assert config_text(tmp_path / "marked" / "config.pbtxt") == ENSEMBLE


@pytest.mark.skipif(os.geteuid() == 0 and not unprivileged(), reason="root reads everything")
def test_folders_that_can_be_listed_and_not_entered_are_told_in_a_line(tmp_path):
    (tmp_path / "models" / "cnn" / "1").mkdir(parents=True)
    (tmp_path / "models").chmod(0o444)
    command = [*unprivileged(), sys.executable, "-m", "server", str(tmp_path / "models")]
    command += [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (tmp_path / "models").chmod(0o755)
    assert done.returncode == 1
    assert "cannot be read: Permission denied; `chmod -R a+rX" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text", ['name: "' + '\\"' * 500_000, "\n" * 300_000 + "x", "version_policy" + " " * 300_000 + "x"]
)
def test_a_config_of_a_megabyte_holds_up_no_start(tmp_path, text):
    """A search that looks at each place as far as the end takes hours for it."""
    (tmp_path / "bomb" / "1").mkdir(parents=True)
    (tmp_path / "bomb" / "config.pbtxt").write_text(text)
    assert not repository_models(tmp_path)[0].is_ensemble
    assert served_versions(config_fields(tmp_path / "bomb" / "config.pbtxt"), (1, 2)) == (2,)
