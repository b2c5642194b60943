"""The client at a port that is not the one it means: it says which port that is, and what to give."""

import asyncio
import socket

import numpy as np
import pytest

from client import AsyncVisionClient, ServerUnavailable, VisionClient, VisionError
from client.cli.main import main
from client.transport.address import Address
from client.transport.ports import other_port
from server.watching.status_page import StatusPage
from server.watching.supervisor import Supervisor
from tests.client.clients.test_failures import gate, repository, slow
from tests.client.clients.test_tls import certificate, tls_in_front_of

__all__ = ["certificate", "gate", "repository", "slow"]  # fixtures

PIXELS = np.zeros((2, 2, 3), np.uint8)
WRONG = {
    ("grpc", "http"): "is Triton's port for HTTP, and you speak gRPC. Give --protocol http",
    ("http", "grpc"): "is Triton's port for gRPC, and you speak HTTP. Give --protocol grpc",
    ("grpc", "metrics"): "is Triton's metrics port .* Give the port for gRPC .usually 8001",
    ("http", "metrics"): "is Triton's metrics port .* Give the port for HTTP .usually 8000",
}


def address(server, port):
    return {"http": server.http_url, "grpc": server.grpc_url, "metrics": server.metrics_url[7:-8]}[port]


def questions(client):
    return {
        "health": client.health,
        "models": client.models,
        "classify": lambda: client.classify(PIXELS, model="slow"),
        "stream": lambda: client.stream_text(model="slow").send(PIXELS),
    }


@pytest.mark.parametrize("question", ["health", "models", "classify", "stream"])
@pytest.mark.parametrize(("spoken", "port"), WRONG)
def test_another_port_is_named(slow, spoken, port, question):
    url = f"{spoken}://{address(slow, port)}"
    with VisionClient(url, retries=1) as client, pytest.raises(ServerUnavailable, match=WRONG[spoken, port]):
        questions(client)[question]()

    async def ask():
        async with AsyncVisionClient(url, retries=1) as client:
            await questions(client)[question]()

    with pytest.raises(ServerUnavailable, match=WRONG[spoken, port]):
        asyncio.run(ask())


@pytest.mark.parametrize(("spoken", "port"), WRONG)
def test_the_command_ends_with_3(slow, spoken, port, capsys):
    assert main(["models", "--url", f"{spoken}://{address(slow, port)}"]) == 3
    assert "is Triton's" in capsys.readouterr().err


@pytest.mark.parametrize("spoken", ["grpc", "http"])
def test_the_launchers_status_port_is_named(slow, spoken):
    with StatusPage(Supervisor(slow), "127.0.0.1", 0) as page:
        url = f"{spoken}://127.0.0.1:{page.port}"
        with VisionClient(url, retries=0) as client, pytest.raises(ServerUnavailable, match="status port"):
            client.classify(PIXELS, model="slow")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_right_port_is_not_doubted(slow, protocol):
    """What fails there keeps its own reason."""
    found = Address.parse(f"{protocol}://{address(slow, protocol)}")
    assert other_port(found, 2.0) is None
    with VisionClient(found.url) as client, pytest.raises(VisionError, match="'nonesuch' not found"):
        client.classify(PIXELS, model="nonesuch")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_port_that_speaks_tls_is_named(slow, protocol, certificate):
    with tls_in_front_of(slow, protocol, *certificate) as port:
        url = f"{protocol}://localhost:{port}"
        with VisionClient(url, retries=0) as client, pytest.raises(ServerUnavailable, match="speaks TLS"):
            client.health()


def test_a_port_that_says_nothing_is_left_alone():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert other_port(Address.parse(f"127.0.0.1:{mute.getsockname()[1]}"), 0.2) is None
