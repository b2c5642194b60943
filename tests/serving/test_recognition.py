"""The main path: bytes of a photograph in, the answer that PyTorch would give out, batched on the way."""

import io
import threading

import numpy as np
import pytest
import tritonclient.grpc as grpc
from PIL import Image, ImageEnhance, ImageOps
from tritonclient.utils import np_to_triton_dtype

from client import VisionClient
from export.sources.photographs import photographs
from tests.processes import wait_until
from tests.reference import reference_logits

CNN = "efficientnet_lite0"


@pytest.fixture(scope="module")
def vision(server):
    with VisionClient(server.grpc_url, concurrency=64) as client:
        yield client


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def variants(data):
    """The same photograph as other cameras, phones and web sites would have sent it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    yield data
    yield jpeg(image.resize((int(width * 4.1), int(height * 4.1))))  # decoded at reduced size
    yield jpeg(ImageOps.mirror(image))
    yield jpeg(ImageEnhance.Brightness(image).enhance(0.5))
    yield jpeg(image.crop((width // 5, height // 5, width, height)))


@pytest.mark.parametrize("photo", photographs(), ids=lambda photo: photo.name)
def test_served_top_1_is_pytorchs_top_1(vision, photo):
    files = list(variants(photo.path.read_bytes()))
    expected = [int(reference_logits(Image.open(io.BytesIO(data))).argmax()) for data in files]
    assert [prediction.best.index for prediction in vision.classify(files)] == expected


def test_served_probabilities_are_pytorchs_probabilities(server):
    photo = photographs()[0]
    tensor = grpc.InferInput("encoded_image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[photo.path.read_bytes()]], object))
    with grpc.InferenceServerClient(server.grpc_url) as client:
        served = client.infer("recognize_objects", [tensor]).as_numpy("probabilities")[0]
    logits = reference_logits(Image.open(photo.path)).astype(np.float64)
    softmax = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(served, softmax, atol=1e-5)


def test_18_of_20_labelled_photographs_are_right(vision):
    labelled = [photo for photo in photographs() if photo.name.startswith("imagenet_")]
    answers = vision.classify([photo.path for photo in labelled])
    right = sum(a.best.index == p.class_index for a, p in zip(answers, labelled, strict=True))
    assert (right, len(labelled)) == (18, 20)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chelsea", {"tabby", "tiger cat", "Egyptian cat"}),
        ("coffee", {"espresso", "cup"}),
        ("rocket", {"missile"}),
    ],
)
def test_familiar_photographs_get_familiar_words(vision, name, words):
    photo = next(photo for photo in photographs() if photo.name == name)
    assert vision.classify(photo.path).best.label in words


def all_at_once(held, model, name, arrays, waiting_for=None):
    """Send a request for each array without waiting for any answer; returns when all are answered.

    The model, or the first step of an ensemble, begins when the server has all of them.
    """
    inputs = []
    for array in arrays:
        tensor = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append([tensor])
    errors, answered = [], threading.Semaphore(0)

    def answer(result, error):
        errors.append(error)
        answered.release()

    with grpc.InferenceServerClient(held.server.grpc_url) as client:
        with held.gate.closed():
            for tensors in inputs:
                client.async_infer(model, tensors, answer)
            wait_until(lambda: held.waiting(waiting_for or model) + len(errors) >= len(arrays))
        for _ in inputs:
            answered.acquire()
    assert errors == [None] * len(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["recognize_objects", CNN])
def test_64_requests_at_once_take_at_most_16_executions(held, model):
    if model == CNN:
        name, arrays = "image", [np.zeros((1, 224, 224, 3), np.uint8)] * 64
    else:
        files = [photo.path.read_bytes() for photo in photographs()]
        name, arrays = "encoded_image", [np.array([[files[i % len(files)]]], object) for i in range(64)]
    requests_before, executions_before = held.server.statistics(model)
    all_at_once(held, model, name, arrays)
    # Triton counts an execution just after it has sent the answers.
    wait_until(lambda: held.server.statistics(model)[0] == requests_before + 64)
    assert held.server.statistics(model)[1] - executions_before <= 16
