"""Photographs and their variants, asked of the real server: each answer reaches its photograph."""

import pytest
from PIL import Image

from client import InvalidImage, ModelNotFound, Prediction, VisionClient
from client.cli.robustness.asking import answered
from client.cli.robustness.photographs import Photograph
from client.cli.robustness.tally import UNDISTURBED, Variant
from client.images.corruptions import corrupted, reduced
from client.images.fitting import opened
from tests.pictures import pixels

VARIANTS = [UNDISTURBED, Variant("blur", 5), Variant("rotation", 5), Variant("noise", 2)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two that are photographs, among those that are none."""
    folder = tmp_path_factory.mktemp("photos")
    names = ["a bad.jpg", "b.png", "c bad.png", "d bad.gif", "e.png", "f bad.jpg"]
    for name in names:
        (folder / name).write_bytes(b"\xff\xd8\xff no image")
    Image.fromarray(pixels("chelsea")).save(folder / "b.png")
    Image.fromarray(pixels("coffee")).save(folder / "e.png")
    return [Photograph(folder / name, name) for name in names]


@pytest.fixture
def asked(server):
    def asked(photographs, concurrency=16, model="recognize_objects", seed=0):
        with VisionClient(server.grpc_url, concurrency=concurrency) as client:
            return list(answered(client, photographs, VARIANTS, model=model, seed=seed, short_side=256))

    return asked


def probabilities(results):
    return [[one.best.probability for one in answers] for _, answers in results if isinstance(answers, list)]


def test_answers_and_errors_come_in_order(asked, photographs):
    results = asked(photographs)
    assert [photograph for photograph, _ in results] == photographs
    for photograph, answers in results:
        if "bad" in photograph.name:
            assert isinstance(answers, InvalidImage)
        else:
            assert len(answers) == len(VARIANTS)
            assert all(isinstance(one, Prediction) for one in answers)
    cup = next(answers for photograph, answers in results if photograph.name == "e.png")
    assert cup[0].best.label == "espresso"


def test_each_variant_is_what_it_says(asked, photographs, server):
    ((_, answers),) = asked(photographs[1:2])
    image = reduced(opened(photographs[1].path))
    blurred = corrupted(image, "blur", 5, [])
    with VisionClient(server.grpc_url) as client:
        told = client.classify([photographs[1].path, blurred], 1)
    assert answers[0].best.index == told[0].best.index  # the photograph as it is
    assert answers[1].best == told[1].best


def test_a_seed_gives_the_same_whoever_else_is_asked_and_how(asked, photographs):
    together = probabilities(asked(photographs))
    alone = [probabilities(asked([one], concurrency=1))[0] for one in (photographs[1], photographs[4])]
    for first, second in zip(together, alone, strict=True):
        assert first == pytest.approx(second, abs=1e-4)
    other = probabilities(asked(photographs, seed=1))
    assert other[0][:2] == pytest.approx(together[0][:2], abs=1e-4)  # nothing is drawn by lot
    assert other[0][3] != pytest.approx(together[0][3], abs=1e-4)


def test_what_every_photograph_would_meet_is_raised(asked, photographs):
    with pytest.raises(ModelNotFound):
        asked(photographs, model="nonesuch")


def test_only_bad_ones(asked, photographs):
    assert [type(answers) for _, answers in asked([photographs[0], photographs[2]])] == [InvalidImage] * 2
    assert asked([]) == []
