"""One process of sessions for the many small repositories of a test module, rather than one for each."""

from contextlib import nullcontext

import pytest

from export.lint import linter
from export.lint.reading.sessions import Sessions

__all__ = ["one_worker"]


@pytest.fixture(scope="module", autouse=True)
def one_worker():
    with Sessions() as sessions, pytest.MonkeyPatch.context() as patch:
        patch.setattr(linter, "Sessions", lambda: nullcontext(sessions))
        yield
