"""Environments of peers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perf.harness import venvs
from perf.harness.venvs import NotInstallable, environment
from tests.processes import wait_until


def test_who_wants_one_that_is_being_made_waits_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    wanting, made = [], []

    def want():
        wanting.append(True)
        return []

    def call(command):
        if "venv" in command:
            made.append(Path(command[-1]))
            wait_until(lambda: len(wanting) == 8)
            made[-1].mkdir()

    monkeypatch.setattr(venvs, "shared_requirements", want)
    monkeypatch.setattr(venvs, "call", call)
    (tmp_path / "requirements.txt").touch()
    with ThreadPoolExecutor(8) as pool:
        found = {one.folder for one in pool.map(environment, [tmp_path / "requirements.txt"] * 8)}
    assert found == {*made}
    assert len(made) == 1


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "peer").mkdir()
    requirements = tmp_path / "peer" / "requirements.txt"
    requirements.write_text("--no-index\nno-such-server==1.0\n")
    with pytest.raises(NotInstallable, match=r"no-such-server==1\.0"):
        environment(requirements)
