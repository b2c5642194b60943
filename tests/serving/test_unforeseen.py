"""Faults built into models that are served: the request that meets one is told so, its batch is answered."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import tritonclient.grpc as grpc

from perf.harness.serving import configured
from server import TritonServer
from tests.conftest import ROOT
from tests.copies import copied
from tests.held import Gate
from tests.held_models import GATED, HeldModels
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
REQUESTS, PLACES = 12, dict(zip((7, 10), FAULTS, strict=True))


@contextmanager
def faulty(folder, models):
    """What serves these models with faults, and its log."""
    gate = Gate(folder / "gate")
    for model in models:
        for name in (model, *MODELS[model]):
            copied(ROOT / "model_repository" / name, folder / "models" / name)
        for file, added in (("decoding.py", BUILT_IN), ("model.py", gate.code + GATED.format(names=[None]))):
            with (folder / "models" / model / "1" / file).open("a") as code:
                code.write(added)
    with configured("cpu"), TritonServer(folder / "models", log=folder / "log") as server:
        assert all(model.ready for model in server.models())
        yield HeldModels(server, gate), folder / "log"


@pytest.fixture(scope="module")
def all_faulty(tmp_path_factory):
    with faulty(tmp_path_factory.mktemp("all"), MODELS) as served:
        yield served


def outputs(reply):
    return {output.name: reply.as_numpy(output.name) for output in reply.get_response().outputs}


def check(served, model):
    """Both faults among sound images at once, which share batches with them."""
    held, log = served
    sound = LINE if model == "read_text" else FACE
    asked = [tensors(grpc, [PLACES.get(place, sound)]) for place in range(REQUESTS)]
    answers, answered = {}, threading.Semaphore(0)
    processes = set(without_planner(descendants(held.server.pid)))
    with grpc.InferenceServerClient(held.server.grpc_url) as client:
        before, executions = held.server.statistics(model)
        alone = outputs(client.infer(model, asked[0]))
        with held.gate.closed():
            for place, one in enumerate(asked):

                def answer(result, error, place=place):
                    answers[place] = error or outputs(result)
                    answered.release()

                client.async_infer(model, one, answer)
            wait_until(lambda: held.waiting(model) >= REQUESTS)
        for _ in asked:
            answered.acquire()
    wait_until(lambda: held.server.statistics(model)[0] == before + 1 + REQUESTS)
    assert held.server.statistics(model)[1] - executions < 1 + REQUESTS  # they shared batches
    for place, found in answers.items():
        if place in PLACES:
            assert found.message() == f"the model failed on this request: {FAULTS[PLACES[place]]}"
            assert found.status() == "StatusCode.INTERNAL"
            continue
        for name, array in alone.items():
            if array.dtype == object:
                assert found[name].tolist() == array.tolist()
            else:
                np.testing.assert_allclose(found[name], array, atol=1e-5)
    written = log.read_text()
    for name in FAULTS.values():
        assert f"{name}: built in" in written
    assert f"{model}/1/model.py" in written
    assert processes <= set(descendants(held.server.pid))


def test_what_nobody_foresaw_fails_its_request_alone(tmp_path):
    with faulty(tmp_path, ["image_decoder"]) as served:
        check(served, "image_decoder")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_so_it_is_with_every_model(all_faulty, model):
    check(all_faulty, model)
