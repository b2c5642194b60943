"""A server that restricts the repository's index and shared memory still serves everybody."""

import os

import pytest

from client import AccessDenied, ModelNotFound, ModelNotReady, VisionClient
from tests.client.conversation.held_server import PROTOCOLS, ask, serving, url_of

RESTRICTED = [
    "--http-restricted-api=model-repository,shared-memory:pass-word=sesame",
    "--grpc-restricted-protocol=model-repository,shared-memory:pass-word=sesame",
]


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
