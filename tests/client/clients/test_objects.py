"""Finding objects with both clients, against the real server."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from client import (
    AsyncVisionClient,
    Detection,
    Detections,
    InvalidImage,
    InvalidInput,
    ModelNotFound,
    VisionClient,
    detection_overlay,
)
from client.common.defaults import DETECTOR
from tests.of_npm import needs
from tests.pictures import pixels

BIKE = pixels("motorcycle_left")


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(params=["grpc", "http"])
def url(request, server):
    needs(DETECTOR, server)
    return f"{request.param}://{server.grpc_url if request.param == 'grpc' else server.http_url}"


@pytest.fixture
def vision(url):
    with VisionClient(url, timeout_s=120) as client:
        yield client


def test_what_is_there_is_found_in_whatever_holds_it(vision):
    kinds = [png(BIKE), BIKE, Image.fromarray(BIKE), io.BytesIO(png(BIKE))]
    first, *others = vision.detect(kinds)
    assert isinstance(first, Detections)
    assert (first.model, first.source) == ("detect_objects", "image 1")
    assert first.weights.startswith("pretrained")
    assert not first.has_random_weights
    (bike,) = first.objects
    assert (bike.label, bike.index) == ("motorcycle", 3)
    assert bike.score == pytest.approx(0.8, abs=0.02)
    np.testing.assert_allclose(bike.box, (103, 67, 687, 454), atol=2)
    assert all(other.objects == first.objects for other in others)


def test_options_reach_the_server(vision):
    cup = pixels("coffee")
    many = vision.detect(cup, score_threshold=0.05).objects
    assert len(many) > 3
    assert [one.score for one in many] == sorted((one.score for one in many), reverse=True)
    assert vision.detect(cup, score_threshold=0.05, max_detections=2).objects == many[:2]
    for classes in (["cup"], "cup", [41], (41,), ["Cup "]):
        found = vision.detect(cup, score_threshold=0.05, classes=classes).objects
        assert {one.label for one in found} == {"cup"}
    few = vision.detect(cup, score_threshold=0.2).objects
    assert len(vision.detect(cup, score_threshold=0.2, iou_threshold=1.0).objects) > len(few)
    with pytest.raises(InvalidInput, match=r"score_threshold is '2\.0'; it must be a number from 0 to 1"):
        vision.detect(cup, score_threshold=2)
    with pytest.raises(InvalidInput, match="no class 'cupp', one of classes; did you mean cup"):
        vision.detect(cup, classes=["cupp"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"score_threshold": float("nan")}, "score_threshold is nan; it must be a finite number"),
        ({"iou_threshold": True}, "iou_threshold is True"),
        ({"score_threshold": "0.5"}, "score_threshold is '0.5'"),
        ({"max_detections": 1.5}, "max_detections is 1.5; it must be a whole number"),
        ({"max_detections": 10**12}, "max_detections is 1000000000000"),
        ({"classes": []}, "classes are none"),
        ({"classes": ["cat, dog"]}, "give one label or number for each"),
        ({"classes": [""]}, "give one label or number for each"),
        ({"classes": ["cat\0"]}, "give one label or number for each"),
        ({"classes": [1.5]}, "a class is named by its label or its number"),
        ({"on_error": "ignore"}, "choose 'raise' or 'return'"),
    ],
)
def test_what_cannot_be_is_refused_here(options, said):
    with VisionClient("localhost:9") as client, pytest.raises(InvalidInput, match=said):
        client.detect(BIKE, **options)


def test_a_bad_photograph_stands_in_its_place(vision):
    results = list(vision.detect_iter([BIKE, b"no image", BIKE], on_error="return"))
    assert [isinstance(result, Detections) for result in results] == [True, False, True]
    assert isinstance(results[1], InvalidImage)
    with pytest.raises(InvalidImage):
        vision.detect([BIKE, b"no image"])


def test_a_model_of_another_kind_is_named(vision):
    with pytest.raises(InvalidInput, match="'detect_faces' does not find things in photographs: it takes"):
        vision.detect(BIKE, model="detect_faces")
    with pytest.raises(ModelNotFound, match="detect_helmets"):
        vision.detect(BIKE, model="detect_helmets")


def test_asyncio_answers_alike(url):
    async def ask():
        async with AsyncVisionClient(url, timeout_s=120) as client:
            one = await client.detect(BIKE, classes=["motorcycle"])
            several = [result async for result in client.detect_iter([BIKE, BIKE])]
            return one, await client.detect([BIKE]), several

    with VisionClient(url, timeout_s=120) as client:
        expected = client.detect(BIKE)
    one, (listed,), several = asyncio.run(ask())
    assert one.objects == listed.objects == several[1].objects == expected.objects


@pytest.mark.parametrize("top", [60, 0])
def test_boxes_are_drawn_where_they_are(top):
    """With the label above the box, or inside where there is no room above; the best one on top."""
    photograph = np.full((300, 400, 3), 128, np.uint8)
    box = (40.0, float(top), 250.0, 200.0)
    drawing = np.asarray(detection_overlay(photograph, [Detection("cat", 15, 0.9, box)]))
    assert drawing.shape == photograph.shape
    changed = (drawing != photograph).any(2)
    assert changed[top:201, 40].mean() > 0.9
    assert changed[200, 40:251].mean() > 0.9
    assert changed[top : top + 20, 45:80].any() if top == 0 else changed[top - 12 : top - 2, 45:80].any()
    changed[max(0, top - 40) : 204, 36:254] = False
    assert not changed.any()
    same = np.asarray(detection_overlay(photograph, []))
    assert (same == photograph).all()
