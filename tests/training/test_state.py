"""Files of weights."""

import pytest
import torch

from training.errors import StateError
from training.recipes import RECIPES
from training.state import load_weights, save_weights


def test_weights_are_refused_if_damaged_or_of_another_network(tmp_path):
    path = tmp_path / "stream.safetensors"
    network = RECIPES["text_stream"].network()
    save_weights(network.state_dict(), path, {"seed": "1"})
    other = RECIPES["text_stream"].network()
    load_weights(other, path)
    assert torch.equal(network.head.weight, other.head.weight)
    with pytest.raises(StateError, match=r"does not fit TextRecognizer: .*rnn\.weight_ih_l0 is \(768, 192\)"):
        load_weights(RECIPES["text_recognizer"].network(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StateError, match="cannot be read"):
        load_weights(other, path)
    with pytest.raises(StateError, match="cannot be read"):
        load_weights(other, tmp_path / "none.safetensors")
