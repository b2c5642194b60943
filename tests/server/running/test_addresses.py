"""A server on IPv6: all that is printed leads to it, and the launcher itself reaches it."""

import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http

from client import VisionClient
from server import TritonServer
from server.environment.ports import port_is_free
from tests.launcher import Launcher, ask, get, write_model

pytestmark = pytest.mark.skipif(not port_is_free("::1", 0), reason="no IPv6 here")


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path / "models", "echo")
    return tmp_path / "models"


@pytest.mark.slow
@pytest.mark.parametrize("address", ["::1", "::"])
def test_what_the_launcher_prints_leads_to_the_server(address, repository, tmp_path):
    with Launcher(repository, tmp_path / "log", "--address", address, "--expose") as launcher:
        assert launcher.grpc.startswith("[::1]:")
        assert ask(launcher.grpc, "echo", 3.0) == 3.0
        assert get(f"{launcher.http}/v2/models/echo/ready")[0] == 200
        (metrics,) = [line.split()[1] for line in launcher.lines if "metrics http" in line]
        assert 'nv_inference_count{model="echo"' in get(metrics)[1]
        assert launcher.ready()


@pytest.mark.slow
def test_models_are_loaded_over_grpc_and_every_client_reaches_them(repository, tmp_path):
    with TritonServer(repository, address="::1", log=tmp_path / "log") as server:
        server.run.api.unload("echo")
        assert server.run.load("echo", 60) == ""
        assert server.ready()
        for module, url in ((http, server.http_url), (grpc, server.grpc_url)):
            with module.InferenceServerClient(url) as client:
                assert client.is_model_ready("echo")
        for protocol, url in (("http", server.http_url), ("grpc", server.grpc_url)):
            with VisionClient(url, protocol=protocol) as client:
                assert client.health().ready
