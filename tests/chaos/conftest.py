"""Servers behind a gateway for the cases of this folder, which break them; and what is told of each case."""

import pytest

from server.operations.gateway.keys import Grant
from tests.chaos.models import write_models
from tests.gateways import Tenants


@pytest.fixture(scope="session")
def tenants(tmp_path_factory):
    """alice sends as much as she likes; root is an admin."""
    many = {"rate": 100_000, "concurrency": 1000}
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    return Tenants(file, Grant("alice", **many), Grant("root", admin=True, **many))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("chaos") / "models")


@pytest.fixture
def told(request, capsys):
    """A function that prints a line about this case, whatever pytest keeps to itself."""

    def tell(what):
        with capsys.disabled():
            print(f"\n  {request.node.name}: {what}", flush=True)

    return tell
