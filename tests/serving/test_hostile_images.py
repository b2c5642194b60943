"""Hostile images by the dozen, to every model that opens images; FUZZ_IMAGES=10000 sends so many to each.

Seeds are fixed, so a failure comes again. An image gets an answer of finite numbers, or an error that says
what is wrong with it; the server's processes stay and log no traceback, and a sound image gets the same
answer afterwards.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from client.common.defaults import DETECTOR
from tests.of_npm import needs
from tests.pictures import pixels
from tests.processes import descendants, without_planner
from tests.serving.hostile_images import Source, tensors
from tests.text_lines import encoded, rendered

IMAGES = int(os.environ.get("FUZZ_IMAGES", "60"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
WORKERS = 4
TIMEOUT_S = 120  # of one request: more is a hang
MODELS = (
    "image_decoder",
    "recognize_objects",
    "recognize_scene",
    "explain_objects",
    "read_text",
    "detect_faces",
    "detect_objects",  # where its weights could be fetched
)
ONE_IMAGE = ("detect_faces", "detect_objects")  # takes one in each request
FACE, LINE = encoded(pixels("astronaut")[60:220, 150:310]), encoded(rendered("total 1284.50"))


def answer(client, model, images, parameters=None, class_id=None, label=None):
    inputs = tensors(grpc, images, class_id, label)
    reply = client.infer(model, inputs, parameters=parameters or None, client_timeout=TIMEOUT_S)
    return {output.name: reply.as_numpy(output.name) for output in reply.get_response().outputs}


def outcome(client, source, model):
    """What became of one request: "answered" or "refused"; anything else is a fault."""
    images = [source.image() for _ in range(1 if model in ONE_IMAGE else source.random.choice((1, 1, 3)))]
    asked = source.class_asked() if model == "explain_objects" else (None, None)
    try:
        outputs = answer(client, model, images, source.parameters(model), *asked)
    except InferenceServerException as error:
        refused = error
    else:
        assert all(array.dtype == object or np.isfinite(array).all() for array in outputs.values()), images
        return "answered"
    assert refused.status() == "StatusCode.INVALID_ARGUMENT", f"{model}: {refused} for {images!r}"
    assert len(refused.message()) < 2_000
    return "refused"


@pytest.mark.parametrize("model", MODELS)
def test_hostile_images(server, server_log, model, capsys):
    if model == DETECTOR:
        needs(model, server)
    sound = [LINE if model == "read_text" else FACE]

    def send(worker):
        source = Source(f"{SEED} {model} {worker}")
        share = IMAGES // WORKERS + (worker < IMAGES % WORKERS)
        with grpc.InferenceServerClient(server.grpc_url) as client:
            return Counter(outcome(client, source, model) for _ in range(share))

    with grpc.InferenceServerClient(server.grpc_url) as client:
        before = answer(client, model, sound)
        told = server_log.read_bytes().count(b"Traceback")
        serving = without_planner(descendants(server.pid))
        with ThreadPoolExecutor(WORKERS) as pool:
            counts = sum(pool.map(send, range(WORKERS)), Counter())
        assert set(serving) <= set(descendants(server.pid)), "a process of the server ended"
        assert server_log.read_bytes().count(b"Traceback") == told, "a fault that nobody foresaw"
        after = answer(client, model, sound)
    for name, array in before.items():
        if array.dtype == object:
            assert array.tolist() == after[name].tolist()
        else:
            np.testing.assert_allclose(array, after[name], atol=1e-4)
    assert counts["refused"]
    assert counts["answered"]
    with capsys.disabled():
        print(f"\nhostile requests of images to {model} (seed {SEED}): {dict(sorted(counts.items()))}")
