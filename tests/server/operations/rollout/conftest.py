"""A launcher with a gateway, on the `repository` of each module."""

import pytest

from server.operations.gateway.keys import Grant
from tests.gateways import Served, Tenants
from tests.rollouts import state_in


@pytest.fixture(scope="module")
def served(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    tenants = Tenants(folder / "keys", Grant("alice", rate=100_000, concurrency=100))
    with state_in(folder / "state"), Served(repository, folder / "log", tenants) as running:
        yield running
