"""Places: which classes count, what becomes of the probabilities, and a checkpoint of Places365."""

import hashlib
import json

import numpy as np
import pytest
import torch

from export.catalogue import CATALOGUE
from export.cli.commands import run
from export.networks.imagenet_places import ImageNetPlaces
from export.networks.place_classes import OTHER, PLACES, PLACES365, place_indices, places365_labels
from export.networks.resnet import ResNet18
from export.sources.labels import imagenet_labels, imagenet_place_labels
from export.sources.weights import choose_weights, filled_network
from tests.conftest import ROOT


def test_the_numbers_are_of_the_places_that_the_page_lists():
    labels = imagenet_labels()
    page = (ROOT / "docs" / "reference" / "models.md").read_text()
    for kind, numbers in PLACES.items():
        listed = ", ".join(labels[number] for number in numbers).replace("beacon,", "beacon (a lighthouse),")
        assert f"| {kind} | {listed} |" in page
    assert len(place_indices()) == len(set(place_indices())) == 50
    assert imagenet_place_labels()[-1] == OTHER
    assert CATALOGUE["imagenet_places"].outputs[0].dims == (51,)


def test_what_is_no_place_is_added_up():
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.full(1000, 0.05), 6).astype(np.float32)
    shares[0] = 0
    shares[0, 978] = 1  # nothing but a seashore
    with torch.inference_mode():
        found = ImageNetPlaces()(torch.from_numpy(shares)).numpy()
    indices = list(place_indices())
    np.testing.assert_allclose(found[:, :-1], shares[:, indices], atol=1e-6)
    np.testing.assert_allclose(found[:, -1], np.delete(shares, indices, 1).sum(1), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert found[0, indices.index(978)] == 1


def test_the_names_are_those_of_the_data_set():
    """The MD5 sum of its categories_places365.txt: "/a/airfield 0" and so on, one name in each line."""
    names = PLACES365.read_text().splitlines()
    original = "\n".join(f"/{name[0]}/{name} {number}" for number, name in enumerate(names))
    assert hashlib.md5(original.encode()).hexdigest() == "06c963b85866bd0649f97cb43dd16673"
    labels = places365_labels()
    assert (len(labels), labels[0], labels[8]) == (365, "airfield", "apartment building, outdoor")


def test_resnet18_has_torchvisions_names():
    state = ResNet18(365).state_dict()
    assert sum(
        tensor.numel() for name, tensor in state.items() if "running" not in name and "num_" not in name
    ) == (
        11_363_757  # torchvision's resnet18 has 11,689,512 with 1,000 classes: 635 x 513 fewer
    )
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "fc.bias"} < state.keys()
    assert "layer1.0.downsample.0.weight" not in state
    assert state["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert state["layer4.1.conv2.weight"].shape == (512, 512, 3, 3)


@pytest.fixture
def checkpoint(tmp_path):
    """As the project saves them: a state dict with `module.` before each name, in what training wrote."""
    torch.manual_seed(0)
    state = {f"module.{name}": tensor for name, tensor in ResNet18(365).state_dict().items()}
    file = tmp_path / "resnet18_places365.pth.tar"
    torch.save({"epoch": 90, "arch": "resnet18", "state_dict": state}, file)
    return file


def test_a_places365_checkpoint_fits(checkpoint):
    spec = CATALOGUE["places365_resnet18"]
    network = filled_network(spec, choose_weights(spec, checkpoint))
    expected = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, tensor in network.state_dict().items():
        assert tensor.equal(expected[f"module.{name}"]), name
    with torch.inference_mode():
        answer = spec.served(network)(torch.zeros(2, 224, 224, 3, dtype=torch.uint8))
    assert answer.shape == (2, 365)


@pytest.mark.long
def test_a_places365_checkpoint_is_exported(checkpoint, tmp_path, capsys):
    repository = tmp_path / "models"
    options = ["--no-serve-check", "--json", f"--model-repository={repository}"]
    assert run(["places365_resnet18", f"--checkpoint={checkpoint}", *options]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["outcome"] == "published"
    assert report["weights"].startswith("checkpoint ")
    labels = (repository / "places365_resnet18" / "labels.txt").read_text().splitlines()
    assert labels == places365_labels()


def test_without_a_checkpoint_there_is_nothing_to_export(tmp_path, capsys):
    assert run(["places365_resnet18", f"--model-repository={tmp_path}"]) == 1
    assert "has no weights of its own: give yours with --checkpoint" in capsys.readouterr().err
