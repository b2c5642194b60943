"""What is said where an environment cannot be made. That it is made and used,
tests/export/pipelines/savedmodels/test_door.py shows."""

from collections import namedtuple

import pytest

from export.common import environments
from export.common.errors import PackageError
from export.pipelines.savedmodels.environment import TENSORFLOW


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """No cache, and nowhere to fetch from."""
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path


@pytest.mark.slow
def test_without_network_it_is_told_what_to_do(empty):
    with pytest.raises(PackageError, match=r"is there a network\?[\s\S]*tensorflow==[\s\S]*PIP_FIND_LINKS"):
        TENSORFLOW.python()
    assert not TENSORFLOW.is_there


def test_without_room_nothing_is_begun(empty, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(environments.shutil, "disk_usage", lambda path: usage(1, 1, 1_000_000_000))
    with pytest.raises(PackageError, match=r"1\.0 GB are free"):
        TENSORFLOW.python()
    assert not TENSORFLOW.folder.exists()
