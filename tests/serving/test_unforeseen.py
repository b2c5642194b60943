"""Faults built into models that are served: the request that meets one is told so, its batch is answered."""

import struct
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import tritonclient.grpc as grpc

from perf.harness.serving import configured
from server import TritonServer
from server.environment import native
from tests.conftest import ROOT
from tests.held import Gate
from tests.held_models import GATED, HeldModels, patient_copy
from tests.pictures import pixels
from tests.processes import descendants, wait_until, without_planner
from tests.serving.hostile_images import tensors
from tests.text_lines import encoded, rendered

MODELS = {
    "image_decoder": (),
    "recognize_objects": ("efficientnet_lite0",),
    "read_text": ("text_recognizer",),
    "explain_objects": ("efficientnet_lite0_cam",),
    "detect_faces": ("face_pnet", "face_rnet", "face_onet"),
}
FAULTS = {b"an image that meets a fault": "ZeroDivisionError", b"one that meets a panic": "PanicException"}
BUILT_IN = f"""

class PanicException(BaseException):  # as of what is written in Rust
    pass


def _faulty(function):
    def decode(encoded, **limits):
        if encoded in {FAULTS}:
            raise eval({FAULTS}[encoded])("built in")
        return function(encoded, **limits)

    return decode


decode_crop, decode_whole = _faulty(decode_crop), _faulty(decode_whole)
"""
FACE, LINE = encoded(pixels("astronaut")[60:220, 150:310]), encoded(rendered("total 1284.50"))
REQUESTS, PLACES = 12, (7, 10)


@contextmanager
def faulty(folder, models):
    """What serves these models with faults, and its log."""
    gate = Gate(folder / "gate")
    with configured("cpu"):
        for model in models:
            for name in (model, *MODELS[model]):
                patient_copy(ROOT / "model_repository", folder / "models", name)
            for file, added in (
                ("decoding.py", BUILT_IN),
                ("model.py", gate.code + GATED.format(names=[None])),
            ):
                with (folder / "models" / model / "1" / file).open("a") as code:
                    code.write(added)
        with TritonServer(folder / "models", log=folder / "log") as server:
            assert all(model.ready for model in server.models())
            yield HeldModels(server, gate), folder / "log"


@pytest.fixture(scope="module")
def all_faulty(tmp_path_factory):
    with faulty(tmp_path_factory.mktemp("all"), MODELS) as served:
        yield served


def outputs(reply):
    return {output.name: reply.as_numpy(output.name) for output in reply.get_response().outputs}


def check(served, model, places):
    """What is broken among sound images at once; places: (tensors, status, message) of each that is."""
    held = served[0]
    sound = tensors(grpc, [LINE if model == "read_text" else FACE])
    asked = [places[place][0] if place in places else sound for place in range(REQUESTS)]
    answers, answered = {}, threading.Semaphore(0)
    processes = set(without_planner(descendants(held.server.pid)))
    instances = len(held.server.run.processes.living(model))
    assert 1 <= instances <= min(places)
    with grpc.InferenceServerClient(held.server.grpc_url) as client:
        alone = outputs(client.infer(model, sound))
        with held.gate.closed():
            for place, one in enumerate(asked):

                def answer(result, error, place=place):
                    answers[place] = error or outputs(result)
                    answered.release()

                client.async_infer(model, one, answer)
                if place < instances:  # none is left to refuse at once what is refused before the gate
                    held.gate.wait_until_held(place + 1)
            wait_until(lambda: held.waiting(model) >= REQUESTS)
        for _ in asked:
            answered.acquire()
    for place, found in answers.items():
        if place in places:
            _, status, message = places[place]
            assert (found.status(), found.message()) == (f"StatusCode.{status}", message)
            continue
        assert not isinstance(found, Exception), found
        for name, array in alone.items():
            if array.dtype == object:
                assert found[name].tolist() == array.tolist()
            else:
                np.testing.assert_allclose(found[name], array, atol=1e-5)
    assert processes <= set(descendants(held.server.pid))


def check_faults(served, model):
    held, log = served
    before, executions = held.server.statistics(model)
    message = "the model failed on this request: "
    faults = [(tensors(grpc, [encoded]), "INTERNAL", message + name) for encoded, name in FAULTS.items()]
    check(served, model, dict(zip(PLACES, faults, strict=True)))
    wait_until(lambda: held.server.statistics(model)[0] == before + 1 + REQUESTS)
    assert held.server.statistics(model)[1] - executions < 1 + REQUESTS  # they shared batches
    written = log.read_text()
    assert f"{model}/1/model.py" in written
    for name in FAULTS.values():
        assert f"{name}: built in" in written


@pytest.fixture(scope="module")
def faulty_decoder(tmp_path_factory):
    with faulty(tmp_path_factory.mktemp("decoder"), ["image_decoder"]) as served:
        yield served


def test_what_nobody_foresaw_fails_its_request_alone(faulty_decoder):
    check_faults(faulty_decoder, "image_decoder")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_so_it_is_with_every_model(all_faulty, model):
    check_faults(all_faulty, model)


def raw(content):
    tensor = grpc.InferInput("encoded_image", [1, 1], "BYTES")
    tensor._raw_content = content
    return [tensor]


def test_bytes_that_are_not_what_their_shape_says_fail_their_request_alone(faulty_decoder):
    """Triton's Python backend refuses them before a model sees them, and what shares their batch."""
    if native.compiler() is None:
        pytest.skip("batches are formed by a library that a C compiler makes: apt-get install gcc libc6-dev")
    refused = "incomplete string data for inference input 'encoded_image', expecting string of length"
    broken = {
        struct.pack("<I", 9) + b"seven b": f"{refused} 9 but only 7 bytes available",
        struct.pack("<I", 2**32 - 1): f"{refused} 4294967295 but only 0 bytes available",
    }
    asked = [(raw(content), "INVALID_ARGUMENT", message) for content, message in broken.items()]
    check(faulty_decoder, "image_decoder", dict(zip(PLACES, asked, strict=True)))
