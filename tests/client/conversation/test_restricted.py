"""A server that restricts the repository's index and shared memory still serves everybody."""

import os

import pytest

from client import AccessDenied, InvalidInput, ModelNotFound, ModelNotReady, VisionClient
from client.errors import from_server
from client.transport.shared_memory import Region
from tests.client.conversation.held_server import PROTOCOLS, ask, serving, url_of

RESTRICTED = [
    "--http-restricted-api=model-repository,shared-memory:pass-word=sesame",
    "--grpc-restricted-protocol=model-repository,shared-memory:pass-word=sesame",
]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_models_and_health_need_no_repository_index(protocol, with_broken, photos, caplog):
    key = "triton-grpc-protocol-pass-word" if protocol == "grpc" else "pass-word"
    with serving(with_broken, arguments=RESTRICTED) as server:
        url = url_of(server, protocol)
        with VisionClient(url) as stranger:
            with caplog.at_level("INFO", "triton_vision"):
                (taker,) = stranger.models()
            assert (taker.name, taker.version, taker.ready, taker.backend) == ("taker", "1", True, "python")
            assert "repository index" in caplog.text
            health = stranger.health()
            assert (health.live, health.ready) == (True, False)
            assert ask(stranger, photos).best.label == "slow"
            with pytest.raises(ModelNotReady, match="'broken' has no version that is ready"):
                stranger.classify(photos / "00.png", model="broken")
            with pytest.raises(ModelNotFound, match="those that are ready: taker"):
                stranger.classify(photos / "00.png", model="nonesuch")
        with VisionClient(url, headers={key: "sesame"}) as friend:
            assert {model.name: model.state for model in friend.models()}["broken"] == "UNAVAILABLE"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_memory_that_the_server_refuses(protocol, repository, photos):
    with serving(repository, arguments=RESTRICTED) as server:
        url = url_of(server, protocol)
        refused = pytest.raises(AccessDenied, match=r"takes no shared memory .* Leave shared_memory")
        with VisionClient(url, shared_memory=True) as client, refused:
            ask(client, photos)
        assert not [
            name for name in os.listdir("/dev/shm") if name.startswith(f"triton_vision_{os.getpid()}_")
        ]


@pytest.mark.parametrize("status", ["StatusCode.UNIMPLEMENTED", "501"])
def test_shared_memory_that_a_later_release_keeps_closed(status):
    """In the words of server/src/common.h, r26.08, which no Triton says that pip installs."""
    said = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
    error = from_server(status, said, "localhost:8001")
    assert isinstance(error, AccessDenied)
    assert "--allow-client-shm=true" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_memory_of_another_machine(protocol, repository, photos, monkeypatch):
    """As a container sees it, whose /dev/shm is its own: what the client made is not there."""
    told = Region.registration

    def elsewhere(self):
        method, arguments = told(self)
        return method, {**arguments, "key": f"{arguments['key']}_elsewhere"}

    monkeypatch.setattr(Region, "registration", elsewhere)
    words = r"(?s)share /dev/shm.*ipc: host and user 1000.*Leave shared_memory"
    with (
        serving(repository) as server,
        VisionClient(url_of(server, protocol), shared_memory=True) as client,
        pytest.raises(InvalidInput, match=words),
    ):
        ask(client, photos)
