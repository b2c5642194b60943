"""What the tests of training share: one thread, lines, and runs of few lines."""

import pytest
import torch

from training import batches, loop
from training.lines.generator import LineSource


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def source() -> LineSource:
    """The smallest split, so that few wheels are fetched."""
    return LineSource("validation", seed=3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few lines in a buffer, in a batch and in a validation."""
    monkeypatch.setattr(batches, "BUFFER", 24)
    monkeypatch.setattr(batches, "COLUMNS", 3000)
    monkeypatch.setattr(loop, "VALIDATION_LINES", 6)
