"""How the client reads text, without a server: strips, decoding step by step, contracts, flows, pixels."""

import numpy as np
import pytest
from PIL import Image

import client
from client import InferenceFailed, InvalidImage, InvalidInput, ServerUnavailable, StreamLost, line_columns
from client.cli.main import main
from client.conversation.flows import Conversation, Settings
from client.conversation.strips import (
    TRAILING_STRIPS,
    UNDER_WAY,
    GreedyText,
    HangUp,
    LineStream,
    Receive,
    Send,
    Strips,
)
from client.conversation.text import ReadContract, StreamContract
from client.transport.protocol import Inference, ModelAnswer, Question
from tests.scripts import Script
from tests.text_lines import encoded, rendered

CHARSET = "abc "
READER = {
    "name": "reader",
    "max_batch_size": 8,
    "input": [{"name": "encoded_image", "data_type": "TYPE_STRING", "dims": ["1"]}],
    "output": [
        {"name": "text", "data_type": "TYPE_STRING"},
        {"name": "confidence", "data_type": "TYPE_FP32"},
    ],
    "parameters": {"recognizer": {"string_value": "recognizer"}},
}
RECOGNIZER = {"name": "recognizer", "parameters": {"weights": {"string_value": "random"}}}
STREAMER = {
    "name": "streamer",
    "max_batch_size": 8,
    "input": [{"name": "strip", "data_type": "TYPE_UINT8", "dims": ["32", "32"]}],
    "output": [{"name": "log_probs", "data_type": "TYPE_FP32", "dims": ["8", "5"]}],
    "sequence_batching": {},
    "parameters": {"charset": {"string_value": CHARSET}},
}


def log_probs(path):
    """FP32 [steps, 5] that say `path`, in which "-" is the blank."""
    classes = [0 if character == "-" else 1 + CHARSET.index(character) for character in path]
    return np.log(np.eye(1 + len(CHARSET), dtype=np.float32)[classes] * 0.9 + 0.02)


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("--aa-a-bb--", "aab"),
        ("aaaaaaaa", "a"),
        ("a-a-a-a", "aaaa"),
        ("abcabc", "abcabc"),
        ("", ""),
        ("----", ""),
        ("a a  -  a", "a a  a"),
    ],
)
def test_decoding_is_the_same_wherever_the_steps_are_cut(path, text, cut):
    decoder = GreedyText(CHARSET)
    steps = log_probs(path)
    for start in range(0, len(steps), cut):
        decoder.feed(steps[start : start + cut])
    assert decoder.text == text


def test_strips_are_the_columns_in_order_then_white():
    columns = np.random.default_rng(0).integers(0, 256, (32, 149), dtype=np.uint8)
    for cuts in ([149], [0, 1, 31, 32, 33, 52], [149 - 32, 32]):
        strips, found, start = Strips(32, 32), [], 0
        for width in cuts:
            found += strips.feed(columns[:, start : start + width])
            start += width
        assert len(found) == 149 // 32
        found += strips.finish(2)
        assert {strip.shape for strip in found} == {(32, 32)}
        joined = np.concatenate(found, axis=1)
        np.testing.assert_array_equal(joined[:, :149], columns)
        assert joined.shape[1] == 160 + 64
        assert (joined[:, 149:] == 255).all()


def test_what_is_sent_to_a_reader_and_what_it_answers():
    contract = ReadContract.read(READER)
    tensor = contract.tensor(b"png")
    assert (tensor.name, tensor.array.shape) == ("encoded_image", (1, 1))
    assert contract.inference(tensor, None, 1.0).parameters == {}
    inference = contract.inference(tensor, 8, 1.0)
    assert (inference.parameters, inference.outputs) == ({"beam_width": 8}, ("text", "confidence"))
    arrays = {"text": np.array([["pão".encode()]], object), "confidence": np.array([[0.5]], np.float32)}
    reading = contract.result(ModelAnswer("reader", "3", arrays), "line.png")
    assert (reading.source, reading.version, reading.text, reading.confidence) == (
        "line.png",
        "3",
        "pão",
        0.5,
    )
    with pytest.raises(InferenceFailed, match="other than text"):
        contract.result(ModelAnswer("reader", "3", {**arrays, "text": np.zeros((1, 1))}), "x")


def test_a_readers_weights_are_its_recognisers():
    arrays = {"text": np.array([[b"a"]], object), "confidence": np.array([[0.5]], np.float32)}
    script = Script(READER, RECOGNIZER, ModelAnswer("reader", "1", arrays))
    reading = script.run(Conversation("u", Settings()).ask(Question("reader", ReadContract), b"png", 0))
    assert reading.has_random_weights


@pytest.mark.parametrize(
    ("contract", "said"),
    [(ReadContract, "does not read lines"), (StreamContract, "does not read text in strips")],
)
def test_models_of_another_kind_are_refused(contract, said):
    classifier = {"name": "c", "input": [{"name": "image", "data_type": "TYPE_UINT8"}], "output": []}
    with pytest.raises(InvalidInput, match=said):
        contract.read(classifier)


@pytest.mark.parametrize("missing", ["sequence_batching", "parameters"])
def test_a_stream_needs_sequences_and_a_charset(missing):
    with pytest.raises(InvalidInput, match="charset"):
        StreamContract.read({key: value for key, value in STREAMER.items() if key != missing})


def test_answers_of_another_charset_are_refused():
    with pytest.raises(InferenceFailed, match="answered 7 classes; blank and charset are 5"):
        StreamContract.read(STREAMER).log_probs(ModelAnswer("s", "1", {"log_probs": np.zeros((1, 8, 7))}))


class Camera(Script):
    """Answers every strip with the next of the paths; None is an answer that never comes."""

    def __init__(self, *paths):
        super().__init__()
        self.paths = list(paths)
        self.line = LineStream(Conversation("u", Settings(timeout_s=5)), "streamer")
        self.under_way = self.most_under_way = 0

    def run(self, flow):
        try:
            step = next(flow)
            while True:
                self.steps.append(step)
                outcome = self.outcome(step)
                step = flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
        except StopIteration as stop:
            return stop.value

    def outcome(self, step):
        if isinstance(step, Send):
            self.under_way += 1
            self.most_under_way = max(self.under_way, self.most_under_way)
            return None
        if isinstance(step, Receive):
            self.under_way -= 1
            path = self.paths.pop(0)
            if isinstance(path, Exception):
                return path
            return ModelAnswer("streamer", "2", {"log_probs": log_probs(path)[np.newaxis]})
        return None if isinstance(step, (HangUp, Inference)) else STREAMER

    def sequences(self):
        return [step.inference.sequence for step in self.steps if isinstance(step, Send)]


BLANKS = "--------"


def test_a_stream_begins_once_ends_once_and_joins_repeats_across_strips():
    camera = Camera("-----aaa", "aa-b----", "cc------", BLANKS, BLANKS)
    columns = np.full((32, 70), 255, np.uint8)
    assert camera.run(camera.line.send(columns[:, :20])) == ""
    assert camera.run(camera.line.send(columns[:, 20:])) == "ab"
    assert camera.run(camera.line.close()) == "abc"
    flags = [(place.start, place.end) for place in camera.sequences()]
    assert flags == [(True, False), (False, False), (False, False), (False, False), (False, True)]
    assert TRAILING_STRIPS == 2
    assert {place.correlation_id for place in camera.sequences()} == {camera.line.correlation_id}
    assert isinstance(camera.steps[-1], HangUp)
    assert camera.run(camera.line.close()) == "abc"
    assert camera.line.version == "2"
    with pytest.raises(InvalidInput, match="Begin another one"):
        camera.run(camera.line.send(columns))


def test_each_stream_has_a_correlation_id_of_its_own():
    ids = {Camera().line.correlation_id for _ in range(100)}
    assert len(ids) == 100
    assert all(0 < number < 2**63 for number in ids)


def test_a_stream_without_columns_asks_nothing_of_the_model():
    camera = Camera()
    assert camera.run(camera.line.close()) == ""
    assert not camera.sequences()


def test_the_strips_under_way_are_bounded():
    camera = Camera(*[BLANKS] * 50)
    camera.run(camera.line.send(np.full((32, 50 * 32), 255, np.uint8)))
    assert camera.most_under_way == UNDER_WAY
    assert camera.under_way == 0


@pytest.mark.parametrize("error", [ServerUnavailable("down"), StreamLost("gone"), InferenceFailed("bug")])
def test_after_an_error_nothing_is_sent_again_but_the_end(error):
    camera = Camera("a-------", error)
    columns = np.full((32, 64), 255, np.uint8)
    told = (
        StreamLost if isinstance(error, ServerUnavailable) else type(error)
    )  # the state went with the server
    with pytest.raises(told):
        camera.run(camera.line.send(columns))
    assert len(camera.sequences()) == 2
    *_, hang_up, farewell = camera.steps
    assert isinstance(hang_up, HangUp)
    assert (farewell.sequence.start, farewell.sequence.end) == (False, True)
    assert camera.line.text == "a"
    with pytest.raises(InvalidInput, match="has failed"):
        camera.run(camera.line.send(columns))
    steps = len(camera.steps)
    camera.run(camera.line.close())
    assert len(camera.steps) == steps


def test_an_interrupted_call_ends_the_stream_when_it_is_closed():
    camera = Camera(BLANKS)
    flow = camera.line.send(np.full((32, 64), 255, np.uint8))
    step = next(flow)
    while not isinstance(step, Receive):
        step = flow.send(camera.outcome(step))
    flow.close()  # as when Ctrl-C or a cancelled task leaves it
    with pytest.raises(InvalidInput, match="Begin another one"):
        camera.run(camera.line.send(np.full((32, 64), 255, np.uint8)))
    camera.run(camera.line.close())
    assert camera.steps[-1].sequence.end
    assert camera.line.over


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (np.zeros((32, 5), np.float32), "not a float32 array"),
        (np.zeros((31, 5), np.uint8), r"not \[31, 5\]"),
        (np.zeros((32, 5, 3), np.uint8), r"not \[32, 5, 3\]"),
        (b"bytes", "not bytes"),
    ],
)
def test_columns_that_are_none_are_refused_and_the_stream_goes_on(columns, said):
    camera = Camera("a-------")
    with pytest.raises(InvalidImage, match=f"{said}.*line_columns"):
        camera.run(camera.line.send(columns))
    assert camera.run(camera.line.send(np.full((32, 32), 255, np.uint8))) == "a"


@pytest.mark.parametrize("size", [20, 40, 90])
def test_line_columns_are_dark_on_light_and_fill_the_rows(size):
    plain = line_columns(rendered("Keep walking", size))
    assert (plain.shape[0], plain.dtype) == (32, np.uint8)
    assert np.median(plain) == 255
    rows = np.flatnonzero((plain < 128).any(1))
    assert rows[0] <= 5
    assert rows[-1] >= 26
    inverted = line_columns(rendered("Keep walking", size, "white", "black"))
    np.testing.assert_allclose(inverted.astype(int), plain, atol=3)


def test_line_columns_take_what_classify_takes(tmp_path):
    image = rendered("no").convert("L")
    expected = line_columns(image)
    path = tmp_path / "line.png"
    path.write_bytes(encoded(image))
    for given in (path, path.read_bytes(), np.asarray(image)):
        np.testing.assert_array_equal(line_columns(given), expected)
    assert (line_columns(Image.new("L", (90, 40), 230)) == 255).all()
    exactly = line_columns(255 - np.asarray(image), inverted=True)
    np.testing.assert_allclose(exactly.astype(int), expected, atol=3)
    with pytest.raises(InvalidImage, match="cannot be decoded"):
        line_columns(b"no image")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["read", "x.png", "--beam-width", "0"], 2, "beam_width is 0"),
        (["read", "x.png", "--stream", "--beam-width", "4"], 2, "Drop one"),
        (["read", "x.png", "--url", "127.0.0.1:9", "--retries", "0"], 3, "no Triton server answers"),
    ],
)
def test_the_commands_arguments(arguments, status, said, capsys):
    assert main(arguments) == status
    assert said in capsys.readouterr().err


def test_the_command_says_what_it_can_do(capsys):
    with pytest.raises(SystemExit):
        main(["read", "--help"])
    said = capsys.readouterr().out
    for option in ("--beam-width", "--stream", "--inverted", "--concurrency", "--json", "--protocol"):
        assert option in said
    assert client.common.defaults.LINE_READER in said
