"""The client against the real server: the models of the repository, over every transport."""

import asyncio
import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc
from PIL import Image

from client import (
    AsyncVisionClient,
    InvalidImage,
    InvalidInput,
    ModelNotFound,
    Prediction,
    VisionClient,
)
from tests.pictures import pixels
from tests.processes import wait_until

PHOTOS = {"chelsea": "cat", "coffee": "espresso|cup", "rocket": "missile|rocket|projectile"}
PROTOCOLS = ("grpc", "http")


def encoded(name, image_format="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels(name)).save(file, image_format)
    return file.getvalue()


@pytest.fixture(scope="module")
def photos():
    return [encoded(name, "JPEG") for name in PHOTOS]


@pytest.fixture(params=PROTOCOLS)
def url(request, server):
    return f"{request.param}://{server.grpc_url if request.param == 'grpc' else server.http_url}"


@pytest.fixture
def vision(url):
    with VisionClient(url) as client:
        yield client


def segments():
    return {name for name in os.listdir("/dev/shm") if name.startswith(f"triton_vision_{os.getpid()}_")}


def test_photographs_are_recognised(vision, photos):
    for prediction, expected in zip(vision.classify(photos, 3), PHOTOS.values(), strict=True):
        assert any(word in prediction.best.label for word in expected.split("|")), prediction
        assert len(prediction.classes) == 3
        chances = [found.probability for found in prediction.classes]
        assert chances == sorted(chances, reverse=True)
        assert 0 < sum(chances) <= 1.000001
        assert prediction.model == "recognize_objects"
        assert int(prediction.version) >= 1
        assert prediction.weights.startswith("pretrained")  # what its network says, not the ensemble


def test_every_transport_gives_the_same(server, photos):
    images = [*photos, pixels("astronaut"), Image.fromarray(pixels("coffee")), encoded("chelsea")]

    async def ask_async(url, shared_memory):
        async with AsyncVisionClient(url, shared_memory=shared_memory) as client:
            return await client.classify(images)

    def ask(url, shared_memory):
        with VisionClient(url, shared_memory=shared_memory) as client:
            return client.classify(images)

    answers = []
    for url in (f"grpc://{server.grpc_url}", f"http://{server.http_url}"):
        for shared_memory in (False, True):
            answers.append(ask(url, shared_memory))
            answers.append(asyncio.run(ask_async(url, shared_memory)))
    for answer in answers[1:]:
        for got, wanted in zip(answer, answers[0], strict=True):
            assert (got.source, got.best.label) == (wanted.source, wanted.best.label)
            # The server may batch them differently each time, which moves the last digits.
            chances = [[found.probability for found in p.classes] for p in (got, wanted)]
            np.testing.assert_allclose(chances[0], chances[1], atol=1e-4)
    assert not segments()


def test_a_path_its_bytes_and_its_pixels_are_one_image(vision, tmp_path):
    path = tmp_path / "coffee.png"
    path.write_bytes(encoded("coffee"))
    array = pixels("coffee")
    kinds = [path, str(path), path.read_bytes(), Image.open(path), array]
    answers = [vision.classify(kind) for kind in kinds]
    assert all(isinstance(answer, Prediction) for answer in answers)
    assert answers[0].source == answers[1].source == str(path)
    assert answers[2].source == "image 1"
    for answer in answers[1:]:
        assert answer.best.label == answers[0].best.label
        assert answer.best.probability == pytest.approx(answers[0].best.probability, abs=1e-4)


def test_grey_and_alpha_arrays(vision):
    grey = pixels("camera")
    alpha = np.dstack([pixels("coffee"), np.full(pixels("coffee").shape[:2], 255, np.uint8)])
    from_grey, from_alpha, opaque = vision.classify([grey, alpha, alpha[:, :, :3]])
    assert from_grey.classes
    assert from_alpha.best.label == opaque.best.label


def test_pixels_of_the_models_own_shape(vision):
    square = np.asarray(Image.fromarray(pixels("chelsea")).resize((224, 224)))
    answers = [
        vision.classify(image, model="efficientnet_lite0") for image in (square, Image.fromarray(square))
    ]
    assert "cat" in answers[0].best.label
    assert answers[0].classes == answers[1].classes
    assert answers[0].model == "efficientnet_lite0"


def test_photographs_for_a_pixel_model_go_through_the_servers_decoder(vision, photos):
    """As in recognize_objects, which has the same network behind the same decoder."""
    images = [*photos, pixels("chelsea"), Image.fromarray(pixels("coffee"))]
    for direct, piped in zip(
        vision.classify(images, model="efficientnet_lite0"), vision.classify(images), strict=True
    ):
        assert [found.label for found in direct.classes[:2]] == [found.label for found in piped.classes[:2]]
        assert direct.best.probability == pytest.approx(piped.best.probability, abs=1e-3)
        assert direct.model == "efficientnet_lite0"
    with pytest.raises(InvalidImage, match="image 1: cannot be decoded"):
        vision.classify(photos[0][:2000], model="efficientnet_lite0")
    with pytest.raises(InvalidImage, match="float64 array; pixels are uint8"):
        vision.classify(pixels("coffee") / 255, model="efficientnet_lite0")


def test_bad_images_fail_alone_and_in_place(vision, photos):
    good = photos[0]
    images = [good, good[: len(good) // 2], b"hello", b"", "missing.jpg", good]
    results = vision.classify(images, on_error="return")
    assert [type(result) for result in results] == [Prediction, *[InvalidImage] * 4, Prediction]
    assert [result.index for result in results[1:5]] == [1, 2, 3, 4]
    assert [result.source for result in results[1:5]] == ["image 2", "image 3", "image 4", "missing.jpg"]
    assert all("image 1 of 1" not in str(result) for result in results[1:5])
    with pytest.raises(InvalidImage, match="image 2: ") as raised:
        vision.classify(images)
    assert raised.value.index == 1
    assert isinstance(vision.classify(b"hello", on_error="return"), InvalidImage)


def test_an_unknown_model_and_one_that_does_not_classify(vision, photos):
    with pytest.raises(ModelNotFound, match=r"'no_such_model' not found.*recognize_objects"):
        vision.classify(photos[0], model="no_such_model")
    with pytest.raises(InvalidInput, match="image_decoder' does not classify images"):
        vision.classify(photos[0], model="image_decoder")


def test_more_classes_than_there_are(vision, photos):
    assert len(vision.classify(photos[0], 5000).classes) == 1000


def test_no_images(vision):
    assert vision.classify([]) == []


def test_images_are_taken_only_a_little_ahead(server, photos):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield photos[taken % len(photos)]

    with VisionClient(server.grpc_url, concurrency=2) as client:
        results = client.classify_iter(endless(), 1)
        first = [next(results) for _ in range(6)]
        results.close()
    assert [prediction.source for prediction in first] == [f"image {i}" for i in range(1, 7)]
    assert taken <= 6 + 2 * 2


def test_asyncio_takes_only_a_little_ahead_and_cancels_the_rest(server, photos):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield photos[0]

    async def first_three():
        async with AsyncVisionClient(server.http_url, protocol="http", concurrency=2) as client:
            results = client.classify_iter(endless(), 1)
            first = [await anext(results) for _ in range(3)]
            await results.aclose()
            return first, len(asyncio.all_tasks())

    first, tasks = asyncio.run(first_three())
    assert [prediction.source for prediction in first] == ["image 1", "image 2", "image 3"]
    assert len(taken) <= 3 + 2 * 2
    assert tasks == 1


def test_results_of_a_slow_source_do_not_wait_for_a_full_window(vision, photos):
    taken = 0

    def camera():
        nonlocal taken
        while True:
            taken += 1
            yield photos[0]
            for _ in range(3):  # longer than the answer to the image before takes
                vision.classify(photos[1])

    results = vision.classify_iter(camera())
    assert next(results).source == "image 1"
    assert taken < 4
    results.close()


def test_asyncio_takes_images_from_an_async_source(url, photos):
    async def camera():
        for photo in photos:
            await asyncio.sleep(0)
            yield photo

    async def recognised():
        async with AsyncVisionClient(url) as client:
            return await client.classify(camera(), 1), await client.classify(photos, 1)

    from_camera, from_list = asyncio.run(recognised())
    assert [p.best.label for p in from_camera] == [p.best.label for p in from_list]


def test_a_blocking_client_may_be_shared_by_threads(vision, photos):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: vision.classify(photos, 1), range(8)))
    assert len({tuple(p.best.label for p in answer) for answer in answers}) == 1


def test_many_at_once_are_batched_by_the_server(held):
    square = pixels("astronaut")[:224, :224]

    images_before, executions_before = held.server.statistics("efficientnet_lite0")
    with VisionClient(held.server.grpc_url, concurrency=32) as client, ThreadPoolExecutor(1) as thread:
        with held.gate.closed():
            answers = thread.submit(client.classify, [square] * 64, 1, model="efficientnet_lite0")
            wait_until(lambda: held.waiting("efficientnet_lite0") == 32)
        assert len(answers.result()) == 64
    # counted a little after the answer
    wait_until(lambda: held.server.statistics("efficientnet_lite0")[0] == images_before + 64)
    assert held.server.statistics("efficientnet_lite0")[1] - executions_before < 48


def test_models(vision):
    models = {model.name: model for model in vision.models()}
    assert models["recognize_objects"].ready
    assert models["recognize_objects"].backend == "python"  # as an ensemble where there is a GPU
    assert models["efficientnet_lite0"].backend == "onnxruntime"
    assert models["efficientnet_lite0"].weights == models["recognize_objects"].weights
    assert list(models) == sorted(models)


def test_statistics_tell_where_the_time_of_a_request_went(vision, photos):
    (before,) = vision.statistics("recognize_objects")
    answered = vision.classify(photos[0])

    def later():
        return vision.statistics("recognize_objects")[0]

    wait_until(lambda: later().requests > before.requests)  # counted just after it has been answered
    after = later()
    assert (after.model, after.version) == (answered.model, answered.version)
    assert after.requests == before.requests + 1
    assert after.inferences == before.inferences + 1
    assert after.executions == before.executions + 1
    spent = [getattr(after, of) - getattr(before, of) for of in ("total_ms", "queue_ms", "compute_ms")]
    assert all(spent)
    assert spent[0] >= spent[1] + spent[2]
    with pytest.raises(ModelNotFound, match=r"those that are ready: .*read_text"):
        vision.statistics("no_such_model")


def test_health(vision):
    health = vision.health()
    assert health.live
    assert health.ready
    assert health.server == "triton"
    assert health.version.count(".") == 2
    assert 0 < health.latency_ms < 5000
    assert health.url == vision.url


def test_an_asyncio_client_belongs_to_one_event_loop(url):
    client = AsyncVisionClient(url)
    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(client.health()).live
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(client.health())
        loop.run_until_complete(client.close())
        with pytest.raises(RuntimeError, match="closed"):
            loop.run_until_complete(client.health())
    finally:
        loop.close()


def test_the_callers_headers_are_left_alone(server, photos):
    headers = {"X-Tenant": "tests"}
    for url in (f"http://{server.http_url}", f"grpc://{server.grpc_url}"):
        with VisionClient(url, headers=headers) as client:
            client.classify(photos[0])
            assert client._address.headers == headers  # what tritonclient gets to write into is a copy
    assert headers == {"X-Tenant": "tests"}


def test_closing_leaves_no_region_registered(server, photos):
    with VisionClient(server.grpc_url, shared_memory=True) as client:
        client.classify([*photos, b"not an image"], on_error="return")
        assert segments()
    assert not segments()
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as triton:
        assert not triton.get_system_shared_memory_status().regions
