"""recognize_scene on the real server: what recognize_objects says, over places and "other"."""

import numpy as np
import pytest
import tritonclient.grpc as grpc

from client import InvalidImage, VisionClient
from export.networks.place_classes import place_indices
from export.sources.labels import imagenet_place_labels
from export.sources.photographs import photographs

PHOTOS = {photo.name: photo.path for photo in photographs()}


@pytest.fixture(params=["one process", "ensemble"])
def url(request):
    """Of a server where recognize_objects is one process, and of one where it is an ensemble itself."""
    if request.param == "one process":
        return request.getfixturevalue("server").grpc_url
    return request.getfixturevalue("held_ensemble").server.grpc_url


def infer(url, model, files):
    tensor = grpc.InferInput("encoded_image", [len(files), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[file] for file in files], object))
    with grpc.InferenceServerClient(url) as client:
        return client.infer(model, [tensor]).as_numpy("probabilities")


@pytest.mark.slow
def test_it_is_what_recognize_objects_says(url):
    files = [path.read_bytes() for path in list(PHOTOS.values())[:12]]
    scenes, objects = infer(url, "recognize_scene", files), infer(url, "recognize_objects", files)
    np.testing.assert_allclose(scenes[:, :-1], objects[:, list(place_indices())], atol=1e-5)
    np.testing.assert_allclose(scenes.sum(1), 1, atol=1e-6)


def test_the_client_recognises_scenes(url):
    with VisionClient(url) as vision:
        yurt, cat, bad = vision.classify(
            [PHOTOS["imagenet_08_915"], PHOTOS["chelsea"], b"no image"],
            2,
            model="recognize_scene",
            on_error="return",
        )
        assert (yurt.best.label, cat.best.label) == ("yurt", "other")
        assert cat.best.probability > 0.95
        assert cat.weights == "pretrained 579344248a93"  # of the CNN, two models further
        assert isinstance(bad, InvalidImage)
        names = vision.classify(PHOTOS["chelsea"], 51, model="recognize_scene").classes
        assert {found.label for found in names} == set(imagenet_place_labels())
        listed = {model.name: model.weights for model in vision.models()}
        assert listed["recognize_scene"] == "pretrained 579344248a93"
