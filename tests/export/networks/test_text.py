"""The recurrent models of the catalogue as graphs: one native GRU, any width, states that go on."""

import dataclasses
import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from export import CommittedWeights
from export.catalogue import CATALOGUE
from export.common.errors import CheckpointError, VerificationError
from export.common.packages import LEGERE, extract
from export.graphs.checks.verification import SEQUENCE_RUNS, verify
from export.graphs.facts import facts_of
from export.networks.text.charset import BLANK, CHARSET, CLASSES
from export.networks.text.line_cnn import PAST_COLUMNS, RECEPTIVE_COLUMNS, STEP_COLUMNS
from export.pipelines.pytorch import export_model
from export.repository.publish import newest_version
from export.sources.samples import line_pixels, line_strips
from export.sources.text_lines import page_lines
from export.sources.weights import choose_weights, filled_network
from tests.conftest import ROOT
from training.metrics import character_error_rate, greedy_text

RECOGNIZER, STREAM = CATALOGUE["text_recognizer"], CATALOGUE["text_stream"]
SPECS = pytest.mark.parametrize("spec", [RECOGNIZER, STREAM], ids=lambda spec: spec.name)


@pytest.fixture(scope="module")
def repository() -> Path:
    """Both models as `make export` published them."""
    return ROOT / "model_repository"


def graph_path(repository: Path, spec) -> Path:
    return repository / spec.name / str(newest_version(repository / spec.name)) / "model.onnx"


def network(spec) -> torch.nn.Module:
    """The one whose graph is in `repository`."""
    return filled_network(spec, choose_weights(spec))


def lines(batch: int, width: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (batch, 32, width), dtype=np.uint8)


@SPECS
def test_the_graph_has_one_gru_node_and_no_loop(repository: Path, spec):
    model = onnx.load(graph_path(repository, spec))
    types = [node.op_type for node in model.graph.node]
    assert types.count("GRU") == 1
    assert not {"Loop", "Scan", "If", "Sigmoid", "Tanh", "LSTM", "RNN"} & set(types)
    assert types.count("MatMul") + types.count("Gemm") == 1  # the head: no step was unrolled
    assert len(types) < 100
    assert not model.functions
    (gru,) = [node for node in model.graph.node if node.op_type == "GRU"]
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in gru.attribute}
    expected = {
        "text_recognizer": (b"bidirectional", 128, 1),
        "text_stream": (b"forward", 256, 0),
    }
    names = ("direction", "hidden_size", "linear_before_reset")
    assert tuple(attributes[name] for name in names) == expected[spec.name]
    constants = {tensor.name for tensor in model.graph.initializer}
    assert set(gru.input[1:4]) <= constants  # no work on weights is left for run time


@SPECS
def test_the_graph_declares_what_the_spec_says(repository: Path, spec):
    facts = facts_of(onnx.load(graph_path(repository, spec)))
    declared = [str(tensor) for tensor in (*facts.inputs, *facts.outputs)]
    assert (
        declared
        == {
            "text_recognizer": ["line uint8 [?, 32, ?]", "log_probs float32 [?, ?, 122]"],
            "text_stream": [
                "strip uint8 [?, 32, 32]",
                "column_state_in float32 [?, 32, 44]",
                "gru_state_in float32 [?, 1, 256]",
                "log_probs float32 [?, 8, 122]",
                "column_state_out float32 [?, 32, 44]",
                "gru_state_out float32 [?, 1, 256]",
            ],
        }[spec.name]
    )


@pytest.mark.parametrize(("batch", "width"), [(1, 1), (1, 7), (5, 64), (2, 333), (32, 128), (1, 2001)])
def test_the_recogniser_takes_any_batch_and_width(repository: Path, batch: int, width: int):
    session = onnxruntime.InferenceSession(graph_path(repository, RECOGNIZER))
    line = lines(batch, width)
    (answer,) = session.run(None, {"line": line})
    assert answer.shape == (batch, -(-width // STEP_COLUMNS), CLASSES)
    with torch.inference_mode():
        right = network(RECOGNIZER)(torch.from_numpy(line)).numpy()
    np.testing.assert_allclose(answer, right, atol=RECOGNIZER.tolerance)
    np.testing.assert_allclose(np.exp(answer).sum(2), 1, atol=1e-5)


@torch.inference_mode()
def test_legeres_checkpoint_gives_legeres_answers(monkeypatch):
    """Its own class, from its wheel, against the layers of ours with the same weights; ours goes on to where
    each line ends, which legere leaves to the padding.
    """
    files = [extract(LEGERE, f"legere/{name}") for name in ("data/model.pt", "charset.py", "model.py")]
    package = ModuleType("legere")  # without its __init__, which needs OpenCV
    package.__path__ = [str(files[-1].parent)]
    monkeypatch.setitem(sys.modules, "legere", package)
    charset, theirs = (importlib.import_module(f"legere.{name}") for name in ("charset", "model"))
    assert (charset.CHARSET, charset.BLANK_INDEX) == (CHARSET, BLANK)
    original = theirs.CompactCRNN().eval()
    original.load_state_dict(torch.load(files[0], weights_only=True)["model"])
    ours = filled_network(RECOGNIZER, choose_weights(RECOGNIZER, checkpoint=files[0]))
    for width in (97, 256):
        line = torch.from_numpy(lines(2, width))
        grey = line / 127.5 - 1
        answer = ours.head(ours.rnn(ours.features(grey))[0])
        torch.testing.assert_close(answer, original(grey[:, None]), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_white_on_the_right_changes_nothing():
    """In PyTorch; the tests of read_text hold it against the served graph."""
    net, line = network(RECOGNIZER), torch.from_numpy(lines(2, 97))
    line[1, :, 60:] = 255
    narrow = net(line)
    wide = net(torch.nn.functional.pad(line, (0, 203), value=255))
    torch.testing.assert_close(wide[:, : narrow.shape[1]], narrow, rtol=0, atol=1e-4)
    assert (wide.argmax(2)[1, 60 // 4 + 6 :] == BLANK).all()


@torch.inference_mode()
def test_strip_by_strip_is_an_unbroken_run(repository: Path):
    net, line = network(STREAM), lines(3, 320)
    whole = net.forward_line(torch.from_numpy(line)).numpy()
    assert whole.shape == (3, 80, CLASSES)
    session = onnxruntime.InferenceSession(graph_path(repository, STREAM))
    states = [np.zeros((3, *state.dims), np.float32) for state in STREAM.states]
    theirs, ours, torch_states = [], [], [torch.from_numpy(state) for state in states]
    for strip in np.split(line, 10, axis=2):
        names = [tensor.name for tensor in STREAM.graph_inputs]
        log_probs, *states = session.run(None, dict(zip(names, (strip, *states), strict=True)))
        ours.append(log_probs)
        log_probs, *torch_states = net(torch.from_numpy(strip), *torch_states)
        theirs.append(log_probs.numpy())
    np.testing.assert_allclose(np.concatenate(theirs, 1), whole, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(ours, 1), whole, atol=1e-4)


@torch.inference_mode()
def test_strips_of_other_widths_are_the_same_run():
    net, line = network(STREAM), torch.from_numpy(lines(1, 96))
    states, parts = [torch.zeros(1, *state.dims) for state in STREAM.states], []
    for width in (4, 40, 12, 8, 32):
        done = sum(part.shape[1] for part in parts) * STEP_COLUMNS
        log_probs, *states = net(line[:, :, done : done + width], *states)
        parts.append(log_probs)
    torch.testing.assert_close(torch.cat(parts, 1), net.forward_line(line), rtol=0, atol=1e-4)


def test_a_step_sees_its_own_columns_and_the_past_ones_and_none_ahead():
    """The receptive field, measured: which columns have a gradient on the features of one step."""
    net = network(STREAM)
    columns = torch.rand(1, 32, PAST_COLUMNS + 64, requires_grad=True)
    features = net.features(columns)
    assert features.shape[1] == 64 // STEP_COLUMNS
    for step in (0, 5, 15):
        (gradient,) = torch.autograd.grad(features[0, step].sum(), columns, retain_graph=True)
        (seen,) = torch.nonzero(gradient[0].abs().sum(0), as_tuple=True)
        first = step * STEP_COLUMNS  # the line's own columns begin at PAST_COLUMNS
        assert seen.tolist() == list(range(first, first + RECEPTIVE_COLUMNS))
        assert seen[-1] - PAST_COLUMNS < first + STEP_COLUMNS


@torch.inference_mode()
def test_zeros_in_the_states_are_white_paper_before_the_line():
    net, line = network(STREAM), torch.from_numpy(lines(2, 64))
    white = torch.full((2, 32, 64), 255, dtype=torch.uint8)
    features = net.features(1 - 2 * torch.nn.functional.pad(1 - line / 255, (PAST_COLUMNS, 0)))
    grey = torch.cat((white[:, :, :PAST_COLUMNS], line), 2) / 127.5 - 1
    torch.testing.assert_close(net.features(grey), features, rtol=0, atol=1e-5)
    zeros = [torch.zeros(2, *state.dims) for state in STREAM.states]
    _, column_state, _ = net(white, *zeros)
    assert not column_state.any()


def test_both_networks_have_the_same_convolutions():
    recognizer, stream = network(RECOGNIZER).state_dict(), network(STREAM).state_dict()
    shared = {key for key in recognizer if key.startswith(("stem.", "blocks."))}
    assert shared == {key for key in stream if key.startswith(("stem.", "blocks."))}
    assert all(recognizer[key].shape == stream[key].shape for key in shared)


def test_the_samples_are_lines_of_a_page_at_several_widths():
    widths = {line.shape[1] for (line,) in line_pixels()}
    assert len(widths) == 3
    assert any(width % STEP_COLUMNS for width in widths)
    strips = [strip for (strip,) in line_strips()]
    assert {strip.shape for strip in strips} == {(32, 32)}
    assert len(strips) > 100
    assert np.mean(strips) > 160  # dark on light


@SPECS
@torch.inference_mode()
def test_the_committed_weights_read_the_photographed_page(spec):
    """Weights, characters, pixels and states fit together; how good the models are is measured elsewhere."""
    net = filled_network(spec, choose_weights(spec))
    read = net.forward_line if spec is STREAM else net
    whole = [torch.from_numpy(line) for (line,) in line_pixels()[: len(page_lines())]]  # padded with white
    texts = [greedy_text(read(line[None])[0].numpy()) for line in whole]
    pairs = list(zip(texts, (line.text for line in page_lines()), strict=True))
    assert character_error_rate(pairs) <= 5, pairs


class ForgetsItsState(torch.nn.Module):
    """A fault that shows from the second request of a sequence on."""

    def __init__(self, stream: torch.nn.Module):
        super().__init__()
        self.stream = stream

    def forward(self, strip, column_state, gru_state):
        return self.stream(strip, column_state, gru_state * 0)


@pytest.mark.slow
def test_verification_follows_the_states_of_a_sequence(repository: Path):
    graph, net = graph_path(repository, STREAM).read_bytes(), network(STREAM)
    result = verify(STREAM, graph, net, line_strips())
    assert result.items == SEQUENCE_RUNS * (1 + 2 + 7 + 32)
    with pytest.raises(VerificationError) as raised:
        verify(STREAM, graph, ForgetsItsState(net), line_strips())
    text = str(raised.value)
    assert "request 1 of a sequence" not in text  # there the state is zero
    assert "request 2 of a sequence" in text


@SPECS
def test_the_config_says_what_the_classes_are(repository: Path, spec):
    text = (repository / spec.name / "config.pbtxt").read_text()
    assert "áàâãçéêíóôõúü" in text
    assert spec.parameters == {"charset": CHARSET}
    assert (BLANK, len(CHARSET), len(set(CHARSET)), CLASSES) == (0, 121, 121, 122)


def saved(path: Path, spec, **metadata: str) -> Path:
    save_file(network(spec).state_dict(), path, metadata)
    return path


def test_a_checkpoint_of_safetensors_fills_the_network(tmp_path: Path):
    path = saved(tmp_path / "mine.safetensors", STREAM, charset=CHARSET, note="of May")
    filled = filled_network(STREAM, choose_weights(STREAM, checkpoint=path))
    assert all(map(torch.equal, filled.state_dict().values(), network(STREAM).state_dict().values()))


def test_a_checkpoint_of_other_characters_is_refused(tmp_path: Path):
    path = saved(tmp_path / "mine.safetensors", STREAM, charset=CHARSET[::-1])
    with pytest.raises(CheckpointError, match="was trained with the charset") as raised:
        export_model(STREAM, tmp_path / "models", checkpoint=path)
    assert "train it again" in str(raised.value)
    assert not (tmp_path / "models").exists()


def test_a_damaged_file_of_safetensors_is_refused(tmp_path: Path):
    path = saved(tmp_path / "mine.safetensors", STREAM)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"mine\.safetensors is no file of safetensors"):
        export_model(STREAM, tmp_path / "models", checkpoint=path)


def test_committed_weights_are_the_models_own(tmp_path: Path):
    path = saved(tmp_path / "weights.safetensors", STREAM)
    spec = dataclasses.replace(STREAM, weights=CommittedWeights(path))
    weights = choose_weights(spec)
    assert weights.label == f"pretrained {spec.weights.sha256[:12]}"
    assert weights.path == path
    path.unlink()
    with pytest.raises(CheckpointError, match=r"no weights at .*get it back with git"):
        choose_weights(spec)
