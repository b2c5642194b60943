"""Which models are held outlives the launcher."""

import json

import pytest

from server.environment.holds import Hold, Holds, state_folder
from server.errors import RepositoryError

HOLD = Hold((1, 2), '{"name": "m", "version_policy": {"latest": {"num_versions": 1}}}', 3, "it was slow")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    (tmp_path / "models" / "m" / "3").mkdir(parents=True)
    return tmp_path / "models"


def test_it_is_found_again(repository):
    Holds(repository).hold("m", HOLD)
    found = Holds(repository)
    assert dict(found) == {"m": HOLD}
    assert found.file.stat().st_mode & 0o077 == 0
    assert Holds(repository.parent) == {}
    found.remove("m")
    assert not found.file.exists()
    assert Holds(repository) == {}


def test_its_versions_are_loaded_alone():
    assert json.loads(HOLD.load_config) == {"name": "m", "version_policy": {"specific": {"versions": [1, 2]}}}


def test_it_goes_with_what_it_was_against(repository):
    Holds(repository).hold("m", HOLD)
    (repository / "m" / "3").rmdir()
    assert Holds(repository) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"models": {"m": {}}}',
        '{"models": {"m": {"versions": [1], "config": "{", "against": 2, "why": ""}}}',
    ],
)
def test_what_cannot_be_read_is_told(repository, text):
    file = Holds(repository).file
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(RepositoryError, match="remove it to serve what is in the repository"):
        Holds(repository)


def test_what_cannot_be_kept_is_told(repository, tmp_path):
    (tmp_path / "state").write_text("a file")
    holds = Holds(repository)
    with pytest.raises(RepositoryError, match="XDG_STATE_HOME"):
        holds.hold("m", HOLD)
    assert holds == {}


def test_systemd_says_where(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "unit"))
    assert state_folder() == tmp_path / "unit"
