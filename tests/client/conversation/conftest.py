"""The gates of a model, its repository, and photographs for it."""

import pytest
from PIL import Image

from tests.client.conversation.held_server import IMAGES, MODEL, Command, write_model
from tests.held import Gate


@pytest.fixture
def gate(tmp_path):
    """Of images."""
    return Gate(tmp_path / "gate")


@pytest.fixture
def unloading(tmp_path):
    """The gate of the model's end."""
    return Gate(tmp_path / "unloading")


@pytest.fixture
def repository(tmp_path, gate, unloading):
    code = gate.code + unloading.code.replace("def pass_gate", "def pass_unloading_gate") + MODEL
    write_model(tmp_path / "repository", "taker", code)
    return tmp_path / "repository"


@pytest.fixture
def with_broken(repository):
    """With a model beside it that cannot be loaded."""
    write_model(repository, "broken", "raise RuntimeError('no such luck')")
    return repository


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(IMAGES):
        Image.new("L", (8, 8), number).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(autouse=True)
def ended_commands():
    """None outlives a test that failed; they would wait for its server."""
    yield
    while Command.running:
        Command.running.pop().kill()
