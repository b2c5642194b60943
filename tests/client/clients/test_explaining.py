"""`explain` against the real server: both clients, every transport."""

import asyncio

import numpy as np
import pytest

from client import AsyncVisionClient, InvalidImage, InvalidInput, VisionClient, overlay, text_overlay
from client.conversation.explainer import CONTRACTS, OUTPUTS, TAKEN
from tests.pictures import pixels
from tests.text_lines import TEXTS, encoded, rendered

PHOTO = pixels("coffee")


@pytest.fixture(params=["grpc", "http"])
def url(request, server):
    return f"{request.param}://{server.grpc_url if request.param == 'grpc' else server.http_url}"


def check(top, same, by_number, by_label):
    assert same.label == top.label
    assert top.probability == pytest.approx(same.probability, abs=1e-5)
    assert (by_number.index, by_label.label) == (504, "coffee mug")
    assert by_number.probability == by_label.probability < top.probability
    for found in (top, by_number):
        assert found.class_map.shape == (7, 7)
        assert found.heatmap.shape == (224, 224)
        assert found.heatmap.dtype == np.float32
        assert found.class_map.mean(dtype=np.float64) + found.bias == pytest.approx(found.logit, abs=1e-5)
        left, top_edge, right, bottom = found.crop
        assert (right - left) * PHOTO.shape[1] == pytest.approx((bottom - top_edge) * PHOTO.shape[0], abs=2)
        assert found.weights == "pretrained 579344248a93, class maps"
        assert not found.has_random_weights
        assert overlay(PHOTO, found.heatmap, found.crop).size == PHOTO.shape[1::-1]


def test_a_photograph_is_explained(url):
    with VisionClient(url) as vision:
        best = vision.classify(PHOTO).best
        top = vision.explain(PHOTO)
        assert (top.label, top.index) == (best.label, best.index)
        check(
            top,
            *vision.explain([PHOTO], None),
            vision.explain(PHOTO, 504),
            vision.explain(PHOTO, "Coffee mug"),
        )


def test_with_asyncio(url):
    async def explained():
        async with AsyncVisionClient(url) as vision:
            asked = (None, 504, "coffee mug")
            found = await asyncio.gather(*(vision.explain(PHOTO, class_id) for class_id in asked))
            return found[0], (await vision.explain([PHOTO]))[0], *found[1:]

    check(*asyncio.run(explained()))


def test_in_shared_memory(server):
    with VisionClient(server.grpc_url, shared_memory=True) as vision:
        assert vision.explain(PHOTO, 504).index == 504


def test_errors_tell_the_image_from_the_class(url):
    with VisionClient(url) as vision:
        with pytest.raises(InvalidInput, match="the classes are 0 to 999"):
            vision.explain(PHOTO, 1000)
        with pytest.raises(InvalidInput, match=r"no class 'coffe mug'.* did you mean coffee mug"):
            vision.explain(PHOTO, "coffe mug")
        bad, good = vision.explain([b"no image", PHOTO], on_error="return")
        assert isinstance(bad, InvalidImage)
        assert good.label == "espresso"
        with pytest.raises(InvalidInput, match="does not explain images"):
            vision.explain(PHOTO, model="recognize_objects")


@pytest.mark.slow
def test_masked_copies_with_asyncio(server):
    async def explained():
        async with AsyncVisionClient(server.grpc_url, timeout_s=600) as vision:
            return await vision.explain(PHOTO, 504, method="rise"), await vision.explain(PHOTO, 504)

    masked, cam = asyncio.run(explained())
    assert (masked.method, cam.method) == ("rise", "cam")
    assert masked.heatmap.shape == cam.heatmap.shape == (224, 224)
    assert not np.allclose(masked.heatmap, cam.heatmap, atol=0.1)
    np.testing.assert_allclose(masked.class_map, cam.class_map, atol=1e-4)


def test_a_method_that_there_is_not_is_refused():
    with (
        VisionClient("localhost:1", retries=0) as vision,
        pytest.raises(InvalidInput, match="'cam' or 'rise'"),
    ):
        vision.explain(PHOTO, method="gradcam")


@pytest.mark.parametrize("most", [None, "0", "399", "many"])
def test_a_model_that_makes_too_few_copies_is_told(most):
    tensors = {name: {"name": name, "data_type": kind} for name, kind in TAKEN.items()}
    config = {"name": "older", "input": [*tensors.values()], "output": [{"name": name} for name in OUTPUTS]}
    if most is not None:
        config["parameters"] = {"max_masks": {"string_value": most}}
    assert CONTRACTS["cam"].read(config).model == "older"
    with pytest.raises(InvalidInput, match=r"'older' makes no 400 masked copies.*max_masks"):
        CONTRACTS["rise"].read(config)
    config["parameters"] = {"max_masks": {"string_value": "400"}}
    assert CONTRACTS["rise"].read(config).parameters == {"masks": 400}


@pytest.mark.parametrize("wrong", [-2, True, 2.5, "", "  ", 2**31])
def test_a_class_is_a_number_or_a_label(wrong):
    with VisionClient("localhost:1", retries=0) as vision, pytest.raises(InvalidInput, match="class_id is"):
        vision.explain(PHOTO, wrong)


def test_a_line_is_explained(url):
    line = encoded(rendered(TEXTS[0]))
    with VisionClient(url) as vision:
        found, empty = vision.explain_text([line, np.full((50, 400), 250, np.uint8)])
        reading = vision.read_text(line)
        assert (found.text, found.confidence) == (reading.text, pytest.approx(reading.confidence))
        assert "".join(character.text for character in found.characters) == found.text
        assert (empty.text, empty.characters) == ("", ())
        beamed = vision.explain_text(line, beam_width=8)
        assert beamed.text == found.text
        with pytest.raises(InvalidInput, match="which columns made which character"):
            vision.explain_text(line, model="recognize_objects")
    assert text_overlay(line, found.characters).width == rendered(TEXTS[0]).width


def test_a_line_is_explained_with_asyncio(url):
    async def explained():
        async with AsyncVisionClient(url) as vision:
            return await vision.explain_text(encoded(rendered(TEXTS[1])))

    assert asyncio.run(explained()).text == TEXTS[1]
