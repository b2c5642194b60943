"""Good requests, of our client and Triton's, over HTTP and gRPC, are answered as without the rules."""

import json
import urllib.request
from queue import SimpleQueue

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http

from client import VisionClient
from export.sources.photographs import photographs
from server.operations.gateway.rules.outputs import class_outputs
from tests.conftest import ROOT
from tests.graphs import inputs_of
from tests.rules import gateway, needs_haproxy
from tests.text_lines import TEXTS, encoded, rendered

pytestmark = needs_haproxy
PHOTOS = [photo.path.read_bytes() for photo in photographs()[:4]]
LINES = [encoded(rendered(text)) for text in TEXTS[:3]]


@pytest.fixture(scope="module")
def behind(server):
    table = "".join(f"{key} classes\n" for key in class_outputs(ROOT / "model_repository"))
    with gateway(server.http_url, server.grpc_url, table) as running:
        yield running


def answers(url, protocol):
    with VisionClient(f"{protocol}://{url}") as client:
        return (
            client.health().ready,
            [prediction.best for prediction in client.classify(PHOTOS)],
            [reading.text for reading in client.read_text(LINES)],
            client.explain(PHOTOS[0]).heatmap.round(4).tolist(),
        )


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_our_client(server, behind, protocol):
    urls = (server.grpc_url, behind.grpc_url) if protocol == "grpc" else (server.http_url, behind.http_url)
    direct, through = (answers(url, protocol) for url in urls)
    assert direct == through
    assert direct[0]


@pytest.mark.parametrize("binary", [True, False])
def test_tensors_over_http(server, behind, binary):
    """UINT8 [1, 224, 224, 3] as bytes, and as 150,528 numbers of JSON: more than a buffer holds."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    tensor = http.InferInput("image", pixels.shape, "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    output = http.InferRequestedOutput("probabilities", binary_data=binary)
    classes = http.InferRequestedOutput("probabilities", class_count=3)
    scores = []
    for url in (server.http_url, behind.http_url):
        with http.InferenceServerClient(url) as client:
            scores.append(
                client.infer("efficientnet_lite0", [tensor], outputs=[output]).as_numpy("probabilities")
            )
            scores.append(
                client.infer("efficientnet_lite0", [tensor], outputs=[classes]).as_numpy("probabilities")
            )
    np.testing.assert_array_equal(scores[0], scores[2])
    np.testing.assert_array_equal(scores[1], scores[3])
    assert len(scores[1]) in (1, 3)


def test_a_batch_larger_than_a_buffer_over_grpc(server, behind):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), np.uint8)
    scores = []
    for url in (server.grpc_url, behind.grpc_url):
        with grpc.InferenceServerClient(url) as client:
            scores.append(
                client.infer("efficientnet_lite0", inputs_of({"image": pixels})).as_numpy("probabilities")
            )
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_a_stream_of_a_sequence(server, behind):
    strips = np.random.default_rng(0).integers(0, 256, (12, 1, 32, 32), np.uint8)

    def run(url):
        results = []
        with grpc.InferenceServerClient(url) as client:
            answered = SimpleQueue()
            client.start_stream(lambda result, error: answered.put((result, error)))
            for number, strip in enumerate(strips):
                client.async_stream_infer(
                    "text_stream", inputs_of({"strip": strip}), sequence_id=77,
                    sequence_start=number == 0, sequence_end=number == len(strips) - 1,
                )  # fmt: skip
                result, error = answered.get(timeout=60)
                assert error is None
                results.append(result.as_numpy("log_probs"))
        return np.stack(results)

    np.testing.assert_array_equal(run(server.grpc_url), run(behind.grpc_url))


def test_what_has_no_tensors(server, behind):
    for path in (
        "/v2",
        "/v2/health/live",
        "/v2/models/read_text/config",
        "/v2/models/read_text/ready",
        "/v2/models/stats",
    ):
        direct, through = (
            urllib.request.urlopen(f"http://{url}{path}", timeout=60)
            for url in (server.http_url, behind.http_url)
        )
        assert (direct.status, direct.read()) == (through.status, through.read())
    with grpc.InferenceServerClient(behind.grpc_url) as client:
        assert client.is_server_live()
        assert client.is_model_ready("read_text")
        assert client.get_model_metadata("read_text").name == "read_text"
        assert client.get_inference_statistics("read_text").model_stats
    with urllib.request.urlopen(f"http://{behind.http_url}/v2/models/read_text/config", timeout=60) as answer:
        assert json.load(answer)["name"] == "read_text"
