"""Rollouts where only signed models are served."""

import pytest

from export.repository.signing import Signer, new_key
from server.operations.gateway.keys import Grant
from tests.gateways import TINY_CONFIG, Served, Tenants, needs_haproxy
from tests.graphs import publish
from tests.rollouts import Asking, plus, roll_out, state_in, status

pytestmark = [needs_haproxy, pytest.mark.slow]


def test_a_new_version_is_promoted_once_it_is_signed(tmp_path):
    repository = tmp_path / "models"
    publish(repository, "tiny", plus(1), TINY_CONFIG)
    new_key(tmp_path / "key.pem")
    signer = Signer(tmp_path / "key.pem")
    signer.sign(repository / "tiny")
    tenants = Tenants(tmp_path / "keys", Grant("alice", rate=100_000, concurrency=100))
    key = f"--verify-key={tmp_path / 'key.pub.pem'}"
    with (
        state_in(tmp_path / "state"),
        Served(repository, tmp_path / "log", tenants, key, servers=1) as served,
        Asking(served, "tiny", threads=2) as asking,
    ):
        publish(repository, "tiny", plus(1), version=2)
        code, last = roll_out(served, "tiny")
        assert code != 0
        assert "signed" in str(last)  # as its signature does not cover version 2
        assert list(status(served)["models"]["tiny"]) == ["1"]
        signer.sign(repository / "tiny")
        code, last = roll_out(served, "tiny")
        assert (code, last["stage"]) == (0, "promoted"), served.told()
        assert list(status(served)["models"]["tiny"]) == ["2"]
    assert asking.failed() == {}
