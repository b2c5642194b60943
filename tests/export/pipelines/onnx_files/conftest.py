"""Doors for files: into a repository of the test, with a server to try them on or without."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from export.pipelines.serving.trial import TrialServer
from tests.export.pipelines.onnx_files.files import Door


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """In process; nothing is served."""
    return Door(tmp_path, None)


@pytest.fixture(scope="session")
def trial() -> Iterator[TrialServer]:
    """One server for all files of a process."""
    with TrialServer() as running:
        yield running


@pytest.fixture
def served(tmp_path: Path, trial: TrialServer) -> Door:
    return Door(tmp_path, trial)
