import pytest

from server.errors import StartError
from server.operations.gateway.keys import Grant
from tests.gateways import Tenants, alone, ask, needs_haproxy, write_models

pytestmark = needs_haproxy


def test_two_gateways_never_share_a_port(tmp_path):
    """HAProxy by itself would let them: each would get some of the connections."""
    models, tenants = write_models(tmp_path / "models"), Tenants(tmp_path / "keys.txt", Grant("alice"))
    with alone(tenants, models, tmp_path / "log") as first:
        ports = {"port": first.settings.metrics_port, "metrics_port": first.settings.port}
        with (
            pytest.raises(StartError, match="did not come up"),
            alone(tenants, models, tmp_path / "log", **ports),
        ):
            pytest.fail("it shares them")
        for _ in range(20):
            assert ask(first.settings.port, "GET", "/v2", tenants["alice"])[0] == 503  # no server is ready
