"""The committed weights as readers."""

import pytest

from export.networks.text.charset import CHARSET
from tests.conftest import ROOT
from training.evaluation.readers import weights_reader
from training.metrics import character_error_rate
from training.recipes import RECIPES
from training.state import weights_metadata

CHECKPOINTS = ROOT / "export" / "checkpoints"


@pytest.mark.slow
@pytest.mark.parametrize("model", RECIPES)
def test_the_committed_weights_read_unseen_fonts_and_words(model, source):
    path = CHECKPOINTS / f"{model}.safetensors"
    assert path.stat().st_size <= 4 << 20
    assert path.with_suffix(".md").is_file()
    metadata = weights_metadata(path)
    assert metadata["charset"] == CHARSET
    assert metadata["model"] == model
    assert {"seed", "command", "start"} <= metadata.keys()
    reader = weights_reader(model, path)
    lines = [source.line(500 + number, "clean", "english") for number in range(60)]
    pairs = list(zip(reader.read(lines), (line.text for line in lines), strict=True))
    assert character_error_rate(pairs) < 2.5, [pair for pair in pairs if pair[0] != pair[1]]
