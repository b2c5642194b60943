"""Environments of peers."""

import pytest

from perf.harness.venvs import NotInstallable, environment


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "peer").mkdir()
    requirements = tmp_path / "peer" / "requirements.txt"
    requirements.write_text("--no-index\nno-such-server==1.0\n")
    with pytest.raises(NotInstallable, match=r"no-such-server==1\.0"):
        environment(requirements)
