"""A key, and a repository of two models that it signed."""

import pytest

from export.repository.signing import Signer, new_key
from tests.server.environment.trust.signed_models import write


@pytest.fixture
def key(tmp_path):
    new_key(tmp_path / "keys" / "models.pem")
    return tmp_path / "keys" / "models.pem"


@pytest.fixture
def public(key):
    return key.with_suffix(".pub.pem")


@pytest.fixture
def repository(tmp_path, key):
    """Two signed models."""
    for model in ("one", "two"):
        write(tmp_path / "models" / model)
        Signer(key).sign(tmp_path / "models" / model)
    return tmp_path / "models"
