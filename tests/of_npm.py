"""Models whose weights come by npm: where there was none, what asks for them is skipped."""

import pytest

from client.common.defaults import DETECTOR, FACE_EMBEDDER

# What an example or a command says if it asks for one
ASKING = (
    ("compare_faces", FACE_EMBEDDER),
    ("compare-faces", FACE_EMBEDDER),
    ("vision.detect(", DETECTOR),
    ("-m client detect ", DETECTOR),
    ("triton-vision detect ", DETECTOR),
)


def needs(model, server):
    """Skips the test where the server has no such model."""
    if not any(one.name == model for one in server.models()):
        pytest.skip(f"{model} is not in the repository: its weights come by npm, which was not there")


def needs_what_is_asked(text, server):
    """Skips the test of an example or a command for a model that the server has not."""
    for words, model in ASKING:
        if words in text:
            needs(model, server)
