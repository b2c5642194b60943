"""read_text on the real server: what it reads, in how many executions, and what it refuses."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from export.model_code import ctc
from export.model_code.line_image import normalize_line as normalize
from export.networks.text.charset import CHARSET
from export.sources.text_lines import page_lines
from perf.harness.serving import configured
from server import TritonServer
from tests.conftest import ROOT
from tests.processes import wait_until
from tests.serving.test_recognition import all_at_once
from tests.text_lines import TEXTS, encoded, rendered

FOLDER = ROOT / "model_repository" / "read_text"


def config_of(model):
    return text_format.Parse((ROOT / "model_repository" / model / "config.pbtxt").read_text(), ModelConfig())


WIDTHS = [int(width) for width in config_of("read_text").parameters["widths"].string_value.split()]


@pytest.fixture(scope="module")
def client(server):
    with grpc.InferenceServerClient(server.grpc_url) as client:
        yield client


def read(client, images, library=grpc, **parameters):
    """Texts, and confidences FP32 [n, 1]."""
    tensor = library.InferInput("encoded_image", [len(images), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[data] for data in images], object))
    answer = client.infer("read_text", [tensor], parameters=parameters or None)
    return [text.decode() for text in answer.as_numpy("text")[:, 0]], answer.as_numpy("confidence")


def log_probs(client, line, width):
    """The recogniser's own, for one line padded to `width`."""
    padded = np.full((1, 32, width), 255, np.uint8)
    padded[0, :, : line.shape[1]] = line
    tensor = grpc.InferInput("line", padded.shape, "UINT8")
    tensor.set_data_from_numpy(padded)
    return client.infer("text_recognizer", [tensor]).as_numpy("log_probs")[0, : math.ceil(line.shape[1] / 4)]


def characters(classes):
    return "".join(CHARSET[number - 1] for number in classes)


@pytest.mark.parametrize("library", [grpc, http], ids=["grpc", "http"])
def test_rendered_lines_are_read(server, library):
    url = server.grpc_url if library is grpc else server.http_url
    with library.InferenceServerClient(url) as client:
        texts, confidences = read(client, [encoded(rendered(text)) for text in TEXTS], library)
    wrong = [(text, expected) for text, expected in zip(texts, TEXTS, strict=True) if text != expected]
    assert len(wrong) <= 1, wrong
    assert (confidences.shape, confidences.dtype) == ((len(TEXTS), 1), np.float32)
    assert ((confidences > 0) & (confidences <= 1)).all()
    assert np.median(confidences) > 0.9


@pytest.mark.parametrize(
    ("ink", "paper"), [("white", "black"), ("navy", "#ffd"), ("#ffd", "navy"), ("#c00000", "#006400")]
)
def test_inverted_and_coloured_lines_are_read_alike(client, ink, paper):
    plain = read(client, [encoded(rendered(TEXTS[0]))])[0]
    assert read(client, [encoded(rendered(TEXTS[0], ink=ink, paper=paper))])[0] == plain


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_formats_and_orientations_are_those_of_the_decoder(client, image_format):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = rendered(TEXTS[2]).transpose(Image.Transpose.ROTATE_180)
    texts, _ = read(client, [encoded(turned, image_format, quality=95, exif=exif)])
    assert texts == read(client, [encoded(rendered(TEXTS[2]))])[0]


def test_an_empty_line_has_no_text(client):
    texts, confidences = read(client, [encoded(Image.new("L", (400, 50), 250))])
    assert texts == [""]
    expected = np.exp(log_probs(client, np.full((32, 32), 255, np.uint8), WIDTHS[0])[:, ctc.BLANK].sum())
    assert confidences[0, 0] == pytest.approx(expected, rel=1e-4)


def test_confidence_is_the_texts_probability_per_character(client):
    images = [rendered(text) for text in TEXTS[:3]]
    texts, confidences = read(client, [encoded(image) for image in images])
    for image, text, confidence in zip(images, texts, confidences[:, 0], strict=True):
        line = normalize(image)
        steps = log_probs(client, line, next(width for width in WIDTHS if width >= line.shape[1]))
        classes = [1 + CHARSET.index(character) for character in text]
        probability = math.exp(ctc.log_probability([steps], [classes])[0])
        assert confidence == pytest.approx(probability ** (1 / len(text)), rel=1e-4)


def test_padding_does_not_change_the_text(client):
    """In its own width, and padded to the next three: the very same log-probabilities."""
    images = [rendered(text, size) for text in TEXTS for size in (20, 24, 36, 48, 70)]
    for line in [normalize(image) for image in [*images, *(line.image for line in page_lines())]]:
        alone = log_probs(client, line, line.shape[1])
        for width in [width for width in WIDTHS if width >= line.shape[1]][:3]:
            np.testing.assert_allclose(log_probs(client, line, width), alone, atol=1e-4)


def test_a_text_does_not_depend_on_the_lines_beside_it(client):
    images = [encoded(rendered(text, size)) for text in TEXTS for size in (20, 36, 60)]
    alone = [read(client, [image])[0][0] for image in images]
    assert read(client, images)[0] == alone


def test_a_beam_reads_at_least_as_likely_texts(client):
    images = [encoded(line.image) for line in page_lines()]
    greedy, confidences = read(client, images)
    assert read(client, images, beam_width=1)[0] == greedy
    texts, beam_confidences = read(client, images, beam_width=16)
    for i, text in enumerate(texts):
        if text == greedy[i]:
            assert beam_confidences[i] == pytest.approx(confidences[i])
        else:
            assert beam_confidences[i] ** len(text) >= confidences[i] ** len(greedy[i]) * 0.999


@pytest.mark.parametrize("beam_width", [0, 65, -3, "8", True])
def test_a_beam_width_that_cannot_be_is_refused(client, beam_width):
    expected = r"beam_width is .*; it must be a whole number from 1 \(greedy\) to 64"
    with pytest.raises(InferenceServerException, match=expected):
        read(client, [encoded(rendered("no"))], beam_width=beam_width)


GOOD = encoded(rendered("no"))
BAD = {
    "empty": (b"", "empty: there are no bytes"),
    "text": (b"hello, this is a text file", "not a JPEG, PNG, WEBP or GIF image"),
    "truncated": (encoded(rendered(TEXTS[0]), "JPEG")[:900], "cannot be decoded"),
    "grey and truncated": (encoded(rendered(TEXTS[0]).convert("L"), "JPEG")[:900], "cannot be decoded"),
    "wide": (encoded(np.tile(np.uint8([0, 255]), (20, 3000))), "too long: .* the limit is 4,096"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_fails_its_own_request_with_the_reason(client, name):
    data, message = BAD[name]
    with pytest.raises(InferenceServerException, match=f"image 2 of 3: {message}"):
        read(client, [GOOD, data, GOOD])
    with ThreadPoolExecutor(8) as pool:  # batched together, most likely
        good = pool.map(lambda _: read(client, [GOOD])[0], range(7))
        with pytest.raises(InferenceServerException, match=f"image 1 of 1: {message}"):
            read(client, [data])
        assert len({text for texts in good for text in texts}) == 1


def test_a_burst_of_lines_shares_executions(held):
    """Of the process that reads them itself: without batching it would be 128."""
    images = [encoded(rendered(text)) for text in TEXTS]
    lines, count = held.server.statistics("read_text")
    burst = [np.array([[images[i % len(images)]]], object) for i in range(128)]
    all_at_once(held, "read_text", "encoded_image", burst)
    wait_until(lambda: held.server.statistics("read_text")[0] == lines + 128)
    assert held.server.statistics("read_text")[1] - count <= 64


def test_lines_of_mixed_widths_share_executions(held_ensemble):
    """One request of 32 lines needs an execution per width; a burst of requests not many more."""
    server = held_ensemble.server

    def executions(model, lines):
        """Of so many lines since `before`; they are counted a little after the answer."""
        wait_until(lambda: server.statistics(model)[0] == before[model][0] + lines)
        return server.statistics(model)[1] - before[model][1]

    models = ("read_text", "text_recognizer")
    images = [encoded(rendered(text, size)) for text in TEXTS for size in (24, 30, 36, 48)][:32]
    widths = {next(w for w in WIDTHS if w >= normalize(rendered(text)).shape[1]) for text in TEXTS}
    before = {model: server.statistics(model) for model in models}
    with grpc.InferenceServerClient(server.grpc_url) as client:
        read(client, images)
    # a line may reach the next width in another size
    assert executions("text_recognizer", 32) <= len(widths) + 2

    executions("read_text", 32)
    before = {model: server.statistics(model) for model in models}
    burst = [np.array([[images[i % 32]]], object) for i in range(128)]
    all_at_once(held_ensemble, "read_text", "encoded_image", burst)
    assert executions("text_recognizer", 128) <= 64
    assert executions("read_text", 128) <= 64


def test_the_configuration_agrees_with_the_charset_and_the_recogniser():
    reader, recognizer = config_of("read_text"), config_of("text_recognizer")
    assert reader.parameters["charset"].string_value == CHARSET
    assert recognizer.parameters["charset"].string_value == CHARSET
    assert reader.parameters["recognizer"].string_value == recognizer.name
    assert int(reader.parameters["recognizer_batch"].string_value) == recognizer.max_batch_size


@pytest.fixture(scope="module")
def lonely(tmp_path_factory):
    """A server that has read_text, and no recogniser."""
    repository = tmp_path_factory.mktemp("lonely") / "repository"
    repository.mkdir()
    Path(repository / "read_text").symlink_to(FOLDER)
    with (
        configured(""),
        TritonServer(repository) as running,
        grpc.InferenceServerClient(running.grpc_url) as client,
    ):
        yield client


def test_a_missing_recogniser_is_named(lonely):
    for _ in range(2):  # and the model lives on
        with pytest.raises(InferenceServerException, match=r"'text_recognizer', .* failed"):
            read(lonely, [GOOD])
    with pytest.raises(InferenceServerException, match="image 1 of 1: empty"):
        read(lonely, [b""])


NAMES = ("character_boxes", "character_confidences")


def characters_of(client, images, **parameters):
    """Texts, boxes FP32 [n, longest, 4] and confidences FP32 [n, longest]."""
    tensor = grpc.InferInput("encoded_image", [len(images), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[data] for data in images], object))
    answer = client.infer("read_text", [tensor], parameters=parameters)
    return [text.decode() for text in answer.as_numpy("text")[:, 0]], *map(answer.as_numpy, NAMES)


def marked(parts, gap=60):
    """An image of the words in a row with room around, and where each lies: left, right."""
    pieces = [rendered(part, 48) for part in parts]
    image = Image.new("L", (sum(piece.width + gap for piece in pieces) + 300, 400), 255)
    places, left = [], 150
    for piece in pieces:
        image.paste(piece.convert("L"), (left, 170))
        places.append((left, left + piece.width))
        left += piece.width + gap
    return image, places


@pytest.mark.parametrize("scale", [1, 0.5])
def test_characters_lie_where_they_are_written(client, scale):
    words = ["Invoice", "from", "Thursday"]
    image, places = marked(words)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    (text,), (boxes,), (likely,) = characters_of(client, [encoded(image)], characters=True)
    assert text.split() == words
    assert ((likely > 0) & (likely <= 1)).all()
    start = 0
    for word, (left, right) in zip(words, places, strict=True):
        found = boxes[start : start + len(word)] * ([image.width, image.height] * 2)
        middles = (found[:, 0] + found[:, 2]) / 2
        assert (np.diff(middles) > 0).all()
        assert left * scale <= middles[0] <= middles[-1] <= right * scale
        assert (found[:, 1] < 215 * scale).all()
        assert (found[:, 3] > 175 * scale).all()
        start += len(word) + 1


def test_shorter_lines_of_a_request_are_filled_up(client):
    images = [encoded(rendered(text)) for text in TEXTS[:2]] + [encoded(Image.new("L", (400, 50), 250))]
    texts, boxes, likely = characters_of(client, images, characters=1)
    for text, of_line, confidences in zip(texts, boxes, likely, strict=True):
        assert (of_line[: len(text)] >= 0).all()
        assert (of_line[len(text) :] == -1).all()
        assert (confidences[len(text) :] == -1).all()
    alone = characters_of(client, images[:1], characters=1)
    np.testing.assert_allclose(alone[1][0], boxes[0, : len(texts[0])])
    assert characters_of(client, images[2:], characters=1)[1].shape == (1, 1, 4)


def test_characters_are_told_where_they_are_asked_for_only(client):
    assert characters_of(client, [encoded(rendered(TEXTS[1]))])[1:] == (None, None)
    with pytest.raises(InferenceServerException, match="characters is 'yes'; it must be true or false"):
        characters_of(client, [encoded(rendered(TEXTS[1]))], characters="yes")
