"""The client through a gateway with keys: what it says when it is refused. No server is behind it."""

import pytest

from client import AccessDenied, ServerUnavailable, VisionClient
from client.cli.main import main
from server.operations.gateway.keys import Grant
from tests.gateways import Tenants, alone, needs_haproxy, write_models

pytestmark = needs_haproxy


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    return Tenants(tmp_path_factory.mktemp("keys") / "keys.txt", Grant("alice", rate=1000))


@pytest.fixture(scope="module")
def port(tmp_path_factory, tenants):
    folder = tmp_path_factory.mktemp("gateway")
    with alone(tenants, write_models(folder / "models"), folder / "log") as gateway:
        yield gateway.settings.port


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_without_a_key_access_is_denied(protocol, port):
    for key in ("", "tvk_wrong"):
        with (
            VisionClient(f"localhost:{port}", protocol=protocol, api_key=key) as vision,
            pytest.raises(AccessDenied, match="--api-key-file"),
        ):
            vision.classify(b"no image")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_with_one_the_gateway_says_that_no_server_is_ready(protocol, port, tenants):
    with (
        VisionClient(
            f"localhost:{port}", protocol=protocol, api_key=tenants.keys["alice"], retries=0
        ) as vision,
        pytest.raises(ServerUnavailable, match="no server is ready"),
    ):
        vision.classify(b"no image")


def test_the_command(port, tenants, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TRITON_VISION_URL", f"localhost:{port}")
    (tmp_path / "photo.jpg").write_bytes(b"no image")
    assert main(["classify", str(tmp_path / "photo.jpg"), "--retries=0"]) == 3
    assert "no key that is known here" in capsys.readouterr().err
    monkeypatch.setenv("TRITON_VISION_API_KEY", tenants.keys["alice"])
    assert main(["classify", str(tmp_path / "photo.jpg"), "--retries=0"]) == 3
    assert "no server is ready" in capsys.readouterr().err
