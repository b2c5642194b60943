"""Requests that must fail, as any client might send them: a clear error each, and the server serves on."""

import http.client
import json
import os
import signal
import threading

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from client import InvalidImage, ServerUnavailable, VisionClient
from client.common.defaults import DETECTOR
from export.sources.photographs import photographs
from server import TritonServer
from tests.conftest import ROOT
from tests.of_npm import needs
from tests.processes import alive, descendants, segments, wait_until
from tests.serving.test_image_decoder import BAD_IMAGES

CNN = "efficientnet_lite0"
PIXELS = np.zeros((1, 224, 224, 3), np.uint8)
NO_IMAGE = b'{"name": "encoded_image", "shape": [1, 1], "datatype": "BYTES", "data": ["no image"]}'
NINES = b",".join([b"9"] * 32 * 32)
STRIP = b'{"name": "strip", "shape": [1, 32, 32], "datatype": "UINT8", "data": [%s]}' % NINES


@pytest.fixture(autouse=True)
def still_serving(server):
    """After each bad request a good one must be answered."""
    yield
    with VisionClient(server.grpc_url) as client:
        assert client.classify(photographs()[0].path).classes


def send(url, model, name, array):
    tensor = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    with grpc.InferenceServerClient(url) as client:
        return client.infer(model, [tensor])


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images_get_the_decoders_reason(server, name):
    data, message = BAD_IMAGES[name]
    with pytest.raises(InferenceServerException, match=rf"image 1 of 1: .*{message}"):
        send(server.grpc_url, "recognize_objects", "encoded_image", np.array([[data]], object))


def test_bad_images_fail_alone_among_good_ones(server):
    good = photographs()[0].path.read_bytes()
    sent = [data for name, (data, _) in BAD_IMAGES.items() if name not in ("empty", "tiff")]  # as they are
    bad = [*sent, good[: len(good) // 2]]
    images = [image for pair in zip(bad, [good] * len(bad), strict=True) for image in pair]
    with VisionClient(server.grpc_url) as client:
        results = client.classify(images, on_error="return")
    assert all(isinstance(result, InvalidImage) for result in results[0::2])
    assert {result.best.label for result in results[1::2]} == {"bull mastiff"}


@pytest.mark.parametrize(
    ("model", "name", "array", "message"),
    [
        (
            CNN,
            "image",
            PIXELS.astype(np.float32),
            "'image' data-type is 'FP32', but model '.*' expects 'UINT8'",
        ),
        (CNN, "image", PIXELS[:, :100], r"unexpected shape for input 'image'.*\[-1,224,224,3\]"),
        (CNN, "image", np.zeros((33, 224, 224, 3), np.uint8), "batch-size must be <= 32"),
        (CNN, "picture", PIXELS, "unexpected inference input 'picture'"),
        ("resnet_51", "image", PIXELS, "unknown model: 'resnet_51' is not found"),
        (
            "recognize_objects",
            "encoded_image",
            PIXELS[:, 0, 0, :1],
            "data-type is 'UINT8', but .* expects 'BYTES'",
        ),
    ],
)
def test_wrong_tensors_are_named(server, model, name, array, message):
    with pytest.raises(InferenceServerException, match=message):
        send(server.grpc_url, model, name, array)


@pytest.mark.parametrize(
    ("model", "body", "status", "reason"),
    [
        (CNN, b"", 400, "byte size mismatch"),
        (CNN, b"this is no JSON", 500, "failed to parse the request JSON"),  # Triton's own choice of status
        (CNN, b'{"inputs": []}', 400, "expected 1 inputs but got 0"),
        ("resnet_51", b'{"inputs": []}', 404, "unknown model: 'resnet_51'"),
    ],
)
def test_wrong_http_bodies_get_a_reason(server, model, body, status, reason):
    connection = http.client.HTTPConnection(server.http_url)
    connection.request("POST", f"/v2/models/{model}/infer", body=body)
    response = connection.getresponse()
    assert response.status == status
    assert reason in json.loads(response.read())["error"]
    connection.close()


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        *(
            (model, b'"parameters": {"masks": "\xff"}', "the parameters of the request cannot be read: ")
            for model in ("detect_faces", DETECTOR, "explain_objects", "read_text")
        ),
        *(
            (model, b'"id": "\xff"', "image 1 of 1: not a JPEG")
            for model in ("recognize_objects", "read_text")
        ),
        (
            "text_stream",
            b'"parameters": {"sequence_id": "\xff", "sequence_start": true, "sequence_end": true}',
            "model 'text_stream': the correlation ID is a string that is not UTF-8",
        ),
    ],
)
def test_what_is_no_text_fails_its_own_request(server, model, given, said):
    """HTTP lets bytes through that are no UTF-8; where nobody minds them, they fail all of the batch."""
    if model == DETECTOR:
        needs(model, server)
    connection = http.client.HTTPConnection(server.http_url)
    body = b"{" + given + b', "inputs": [' + (STRIP if model == "text_stream" else NO_IMAGE) + b"]}"
    connection.request("POST", f"/v2/models/{model}/infer", body=body)
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    connection.close()
    assert (response.status, error[: len(said)]) == (400, said)


@pytest.mark.slow
def test_a_full_queue_says_so_at_once(held):
    """More at once than the queue holds: the surplus is refused while the rest waits to be answered."""
    answered, refused, done = [], [], threading.Semaphore(0)

    def callback(result, error):
        (refused if error else answered).append(error or result)
        done.release()

    requests, queue, begun = 600, 256, 4 * 32  # two instances have at most two batches each
    surplus = requests - queue - begun
    tensor = grpc.InferInput("image", [1, 224, 224, 3], "UINT8")
    tensor.set_data_from_numpy(PIXELS)
    with grpc.InferenceServerClient(held.server.grpc_url) as client:
        with held.gate.closed():
            for _ in range(requests):
                client.async_infer(CNN, [tensor], callback)
            for _ in range(surplus):
                done.acquire()
            assert not answered
        for _ in range(requests - surplus):
            done.acquire()
    assert len(answered) >= queue
    assert len(refused) >= surplus
    assert all("Exceeds maximum queue size" in str(error) for error in refused)


def test_a_server_killed_in_mid_request_is_an_error_and_leaves_nothing(tmp_path):
    arguments = ["--model-control-mode=explicit", f"--load-model={CNN}"]
    before = segments(os.getpid())
    with TritonServer(ROOT / "model_repository", arguments=arguments, log=tmp_path / "log") as running:
        pids = [running.pid, *descendants(running.pid)]
        answered, errors = threading.Event(), []

        def ask_again_and_again():
            with VisionClient(running.grpc_url, retries=0) as client:
                try:
                    while True:
                        client.classify(PIXELS[0], model=CNN)
                        answered.set()
                except ServerUnavailable as error:
                    errors.append(error)

        asking = threading.Thread(target=ask_again_and_again)
        asking.start()
        answered.wait()
        os.kill(pids[1], signal.SIGKILL)  # tritonserver, the only child of the guard
        asking.join()
        assert len(errors) == 1
        wait_until(lambda: not alive(pids))
    assert segments(os.getpid()) == before
