"""The file of version labels, as others write and replace it."""

import os
from pathlib import Path

import pytest

from server.tfserving.labels import LabelError, VersionLabels


def config(version: int) -> str:
    return (
        f'model_config_list {{ config {{ name: "m" version_labels {{ key: "stable" value: {version} }} }} }}'
    )


def test_a_file_of_the_same_times_is_another(tmp_path: Path):
    """As tar, and images of containers, set them; a removed file's inode is often the next one's."""
    file = tmp_path / "models.config"
    file.write_text(config(1))
    os.utime(file, ns=(0, 0))
    labels = VersionLabels(file)
    for version in (2, 3, 12):
        file.unlink()
        file.write_text(config(version))
        os.utime(file, ns=(0, 0))
        assert labels.version("m", "stable") == version


def test_a_pipe_in_its_place_holds_nobody_up(tmp_path: Path, capsys):
    file = tmp_path / "models.config"
    file.write_text(config(1))
    labels = VersionLabels(file)
    file.unlink()
    os.mkfifo(file)
    for _ in range(3):
        assert labels.version("m", "stable") == 1
    told = capsys.readouterr().err
    assert "is not a regular file; the labels stay as they were" in told
    assert told.count("\n") == 1
    with pytest.raises(LabelError, match="is not a regular file"):
        VersionLabels(file)
