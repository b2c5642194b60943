"""Finding and comparing faces with both clients, against the real server."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from client import (
    AsyncVisionClient,
    Faces,
    InvalidImage,
    InvalidInput,
    ModelNotFound,
    VisionClient,
    face_overlay,
)
from client.common.defaults import FACE_EMBEDDER, SAME_PERSON_BELOW
from export.sources.face_photographs import face_photographs, group_photographs
from tests.face_pairs import DIFFERENT, SAME, STRANGERS, pairs
from tests.of_npm import needs
from tests.pictures import pixels

ASTRONAUT = pixels("astronaut")
FACE = ASTRONAUT[:256, 96:352]


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(params=["grpc", "http"])
def url(request, server):
    return f"{request.param}://{server.grpc_url if request.param == 'grpc' else server.http_url}"


@pytest.fixture
def vision(url):
    with VisionClient(url, timeout_s=120) as client:
        yield client


@pytest.fixture(scope="module")
def has_embedder(server):
    needs(FACE_EMBEDDER, server)


def test_a_face_is_found_in_whatever_holds_it(vision):
    kinds = [png(FACE), FACE, Image.fromarray(FACE), io.BytesIO(png(FACE))]
    first, *others = vision.detect_faces(kinds)
    assert isinstance(first, Faces)
    assert (first.model, first.source) == ("detect_faces", "image 1")
    assert first.weights.startswith("pretrained")
    (face,) = first.faces
    assert 0.99 < face.score <= 1
    left, top, right, bottom = face.box
    assert (right - left) * (bottom - top) == pytest.approx(face.area)
    eye, other_eye, nose, mouth, _ = face.landmarks
    assert left < eye[0] < nose[0] < other_eye[0] < right
    assert top < eye[1] < nose[1] < mouth[1] < bottom
    assert all(other.faces == first.faces for other in others)


def test_options_reach_the_server(vision):
    assert vision.detect_faces(FACE, min_face_size=250).faces == ()
    assert vision.detect_faces(FACE, 250.5).faces == ()
    assert len(vision.detect_faces(FACE, thresholds=(0.5, 0.3, 0.05)).faces) > 1
    with pytest.raises(InvalidInput, match=r"min_face_size is 3; it must be .* from 12"):
        vision.detect_faces(FACE, 3)
    with pytest.raises(InvalidInput, match=r"thresholds is '0\.5 0\.5 2\.0'"):
        vision.detect_faces(FACE, thresholds=(0.5, 0.5, 2))


@pytest.mark.parametrize("size", [float("nan"), float("inf"), True, "20"])
def test_what_is_no_number_is_refused_here(vision, size):
    with pytest.raises(InvalidInput, match="must be a finite number"):
        vision.detect_faces(FACE, size)


def test_two_thresholds_are_too_few(vision):
    with pytest.raises(InvalidInput, match="give three"):
        vision.detect_faces(FACE, thresholds=(0.6, 0.7))


def test_a_bad_photograph_stands_in_its_place(vision):
    results = list(vision.detect_faces_iter([FACE, b"no image", FACE], on_error="return"))
    assert [isinstance(result, Faces) for result in results] == [True, False, True]
    assert isinstance(results[1], InvalidImage)
    with pytest.raises(InvalidImage):
        vision.detect_faces([FACE, b"no image"])


def test_a_model_of_another_kind_is_named(vision):
    with pytest.raises(InvalidInput, match="'read_text' does not find faces: it takes 'encoded_image'"):
        vision.detect_faces(FACE, model="read_text")
    with pytest.raises(InvalidInput, match="'efficientnet_lite0' does not describe faces"):
        vision.compare_faces(FACE, FACE, model="efficientnet_lite0")


def test_asyncio_answers_alike(url):
    async def ask():
        async with AsyncVisionClient(url, timeout_s=120) as client:
            one = await client.detect_faces(FACE)
            several = [result async for result in client.detect_faces_iter([FACE, FACE])]
            return one, await client.detect_faces([FACE]), several

    with VisionClient(url, timeout_s=120) as client:
        expected = client.detect_faces(FACE)
    one, (listed,), several = asyncio.run(ask())
    assert one.faces == listed.faces == several[1].faces == expected.faces


def test_faces_are_drawn_where_they_are(vision):
    found = vision.detect_faces(ASTRONAUT)
    drawing = np.asarray(face_overlay(ASTRONAUT, found.faces))
    assert drawing.shape == ASTRONAUT.shape
    changed = (drawing != ASTRONAUT).any(2)
    left, top, right, bottom = (round(side) for side in found.faces[0].box)
    assert changed[top : bottom + 1, left].mean() > 0.9
    assert changed[round(found.faces[0].landmarks[0][1]), round(found.faces[0].landmarks[0][0])]
    changed[top - 40 : bottom + 4, left - 4 : right + 4] = False
    assert not changed.any()


def test_a_face_is_most_like_itself(vision, has_embedder):
    comparison = vision.compare_faces(ASTRONAUT, FACE)
    assert comparison.distance < 0.3
    assert comparison.is_same_person
    assert comparison.model == "face_embedder"
    assert comparison.faces_found == (1, 1)
    assert "so few say little" in comparison.evidence
    assert comparison.sources == ("image 1", "image 2")


def test_asyncio_compares_alike(url, has_embedder):
    async def ask():
        async with AsyncVisionClient(url, timeout_s=120) as client:
            return await client.compare_faces(ASTRONAUT, FACE)

    with VisionClient(url, timeout_s=120) as client:
        assert asyncio.run(ask()) == client.compare_faces(ASTRONAUT, FACE)


def test_several_faces_are_refused_unless_the_largest_is_meant(vision, has_embedder):
    twice = np.concatenate([FACE, FACE[::2, ::2].repeat(2, 0)[:256, :128]], 1)
    with pytest.raises(InvalidImage, match="2 faces, and it is not said which is meant") as raised:
        vision.compare_faces(FACE, twice)
    assert raised.value.index == 1
    comparison = vision.compare_faces(FACE, twice, face="largest")
    assert comparison.faces_found == (1, 2)
    assert comparison.is_same_person
    with pytest.raises(InvalidInput, match="choose 'only' or 'largest'"):
        vision.compare_faces(FACE, FACE, face="first")


def test_a_photograph_without_a_face_is_refused(vision, has_embedder):
    with pytest.raises(InvalidImage, match=r"no face with a score of 0\.9") as raised:
        vision.compare_faces(pixels("coffee"), FACE)
    assert raised.value.index == 0


def test_without_the_model_that_describes_faces_it_is_said(vision):
    with pytest.raises(ModelNotFound, match="face_embedder_of_mine"):
        vision.compare_faces(FACE, FACE, model="face_embedder_of_mine")


@pytest.mark.slow
def test_all_pairs_part_at_the_published_threshold(server, has_embedder):
    """Those whose people are known, and the people of each group, who are as many people as faces."""
    measured = pairs(server.grpc_url)
    kinds = {kind: [pair.distance for pair in measured if pair.kind == kind] for kind in (SAME, DIFFERENT)}
    assert {kind: len(distances) for kind, distances in kinds.items()} == {SAME: 10, DIFFERENT: 11}
    strangers = [pair.distance for pair in measured if pair.kind == STRANGERS]
    assert len(strangers) == (32 if group_photographs() else 0)
    assert max(kinds[SAME]) < SAME_PERSON_BELOW < min([*kinds[DIFFERENT], *strangers])
    known = next(pair for pair in measured if {pair.first, pair.second} == {"biden.jpg", "astronaut.png"})
    paths = {photograph.name: photograph.path for photograph in face_photographs()}
    with VisionClient(server.grpc_url, timeout_s=120) as client:
        found = client.compare_faces(paths[known.first], paths[known.second])
    assert found.distance == pytest.approx(known.distance, abs=1e-3)
