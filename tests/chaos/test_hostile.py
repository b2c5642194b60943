"""Hostile requests and poisoned images through the gateway: nothing ends, hangs, grows or answers wrongly."""

import contextlib
import io
import os
import random
import shutil
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http_triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.chaos.fleet import fleet, haproxy, tritonservers
from tests.conftest import ROOT
from tests.copies import copied
from tests.gateways import Served, ask, needs_haproxy
from tests.hostile_calls import publish
from tests.pictures import pixels
from tests.processes import resident_bytes, wait_until
from tests.server.operations.gateway.rules.test_hostile_traffic import over_grpc, over_http
from tests.serving.hostile_images import OTHER_FILES
from tests.serving.test_image_bombs import BOMBS, bomb
from tests.traffic import crew

pytestmark = [needs_haproxy, pytest.mark.chaos]

WORKERS = 4
GROWTH_BYTES = 300 * 2**20
NAMES = ("chelsea", "coffee", "rocket", "astronaut")
SMALL_BOMBS = [name for name in BOMBS if name not in ("webp pixels", "scans of many pixels")]  # slow to make
# HAProxy 2.6 tells some gRPC clients CANCELLED of an error to a request that is larger than its buffer.
REFUSALS = ("image 1 of 1", "StatusCode.CANCELLED")
CLASSIFIER = "recognize_objects"
PIPELINE = ("recognize_objects", "image_decoder", "efficientnet_lite0")
TOLERANCE = 1e-3  # other batches, other sums


@contextlib.contextmanager
def steady_memory(served, told):
    """Within, HAProxy and the servers neither end nor grow."""
    pids = {"HAProxy": haproxy(served), **tritonservers(served)}
    before = {name: resident_bytes(pid) for name, pid in pids.items()}
    yield
    assert pids == {"HAProxy": haproxy(served), **tritonservers(served)}
    after = {name: resident_bytes(pid) for name, pid in pids.items()}
    told(", ".join(f"{name} {before[name] >> 20} to {after[name] >> 20} MiB" for name in pids))
    assert all(after[name] - before[name] < GROWTH_BYTES for name in pids)
    assert not any(server["restarts"] for server in fleet(served)["servers"].values())


@pytest.fixture(scope="module")
def served(tmp_path_factory, tenants):
    folder = tmp_path_factory.mktemp("hostile")
    publish(folder / "models")
    with Served(folder / "models", folder / "log", tenants, servers=2) as served:
        yield served


@pytest.mark.parametrize("count", [800, pytest.param(10_000, marks=pytest.mark.long)])
def test_hostile_requests(served, count, told):
    share = count // (2 * WORKERS)
    key = {"x-api-key": served.tenants.keys["alice"]}
    with steady_memory(served, told), ThreadPoolExecutor(2 * WORKERS) as pool:
        done = [
            pool.submit(over_http, served.target, 3000 + worker, share, **key) for worker in range(WORKERS)
        ]
        done += [
            pool.submit(over_grpc, served.target, 4000 + worker, share, **key) for worker in range(WORKERS)
        ]
        counts = sum((future.result() for future in done), Counter())
    told(f"{counts.total()} hostile requests, {dict(sorted(counts.items()))}")
    assert {"HTTP 200", "HTTP 400", "HTTP 415", "gRPC OK", "gRPC INVALID_ARGUMENT"} <= set(counts)
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [2]}]}'
    headers = {**key, "content-type": "application/json"}
    assert ask(served.port, "POST", "/v2/models/echo/infer", headers, body)[0] == 200


# --- the repository's own models


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, tenants):
    folder = tmp_path_factory.mktemp("pipeline")
    for name in (*PIPELINE, "mobilenet_v2"):
        if not list((ROOT / "model_repository" / name / "1").glob("*")):
            pytest.skip(f"{name} has not been exported: make export")
        copied(ROOT / "model_repository" / name, folder / "models" / name)
    shutil.rmtree(folder / "models" / CLASSIFIER / "configs")  # the ensemble, also on a CPU: fewer processes
    with Served(folder / "models", folder / "log", tenants, servers=2) as served:
        yield served


@contextlib.contextmanager
def asking(served, model, tensor_of, judge, kinds):
    """A function of the request's number, over one of the interfaces in turn."""
    triton = next(kinds)
    headers = served.tenants["alice"]
    with triton.InferenceServerClient(served.target) as client:

        def ask_one(number):
            name, array, datatype = tensor_of(number)
            tensor = triton.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            try:
                answer = client.infer(model, [tensor], headers=dict(headers)).as_numpy("probabilities")[0]
            except InferenceServerException as error:
                return judge(number, None, f"{error.status()} {error.message()}")
            return judge(number, answer, "")

        yield ask_one


def turns():
    while True:
        yield http_triton
        yield grpc


def encoded(picture):
    file = io.BytesIO()
    Image.fromarray(picture).resize((256, 256)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("count", [400, pytest.param(8000, marks=pytest.mark.long)])
def test_poisoned_images(pipeline, count, told):
    """One in a hundred is poisoned, in batches with others; those are answered right, and it is refused."""
    choose = random.Random(19)
    good = [encoded(pixels(name)) for name in NAMES]
    poison = [*OTHER_FILES, *(photo[: len(photo) // 2] for photo in good), *map(bomb, SMALL_BOMBS)]
    poisoned = {number: choose.choice(poison) for number in choose.sample(range(count), count // 100)}
    expected = {}

    def tensor_of(number):
        data = poisoned.get(number, good[number % len(good)])
        return "encoded_image", np.array([[data]], object), "BYTES"

    def judge(number, answer, why):
        if number in poisoned:
            refused = answer is None and any(said in why for said in REFUSALS)
            return ("refused", "poisoned") if refused else ("lost", f"poisoned: {why or 'answered'}")
        if answer is None:
            return "lost", why
        which = expected.setdefault(number % len(good), answer)
        return ("answered", "") if np.abs(answer - which).max() < TOLERANCE else ("lost", "a wrong answer")

    kinds = turns()
    with asking(pipeline, CLASSIFIER, tensor_of, judge, kinds) as one:
        for number in range(len(good)):
            one(next(n for n in range(count) if n % len(good) == number and n not in poisoned))
    assert len({probabilities.argmax() for probabilities in expected.values()}) >= len(NAMES) - 1
    with steady_memory(pipeline, told):
        counted = crew(lambda: asking(pipeline, CLASSIFIER, tensor_of, judge, kinds), 8, count)
    told(counted)
    assert counted.lost == 0, counted
    assert (counted.answered, counted.refused) == (count - len(poisoned), len(poisoned))


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.long)])
def test_kill_9_of_one_of_two_servers_of_mobilenet_v2(pipeline, count, told):
    pictures = [np.asarray(Image.fromarray(pixels(name)).resize((224, 224)))[None] for name in NAMES]
    expected, answered = {}, threading.Semaphore(0)

    def judge(number, answer, why):
        answered.release()
        if answer is None:
            return "lost", why
        which = expected.setdefault(number % len(pictures), answer)
        return ("answered", "") if np.abs(answer - which).max() < TOLERANCE else ("lost", "a wrong answer")

    def tensor_of(number):
        return "image", pictures[number % len(pictures)], "UINT8"

    before = fleet(pipeline)["servers"]["s1"]["restarts"]
    kinds = turns()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(crew, lambda: asking(pipeline, "mobilenet_v2", tensor_of, judge, kinds), 8, count)
        for _ in range(count // 4):
            answered.acquire()
        os.kill(tritonservers(pipeline)["s1"], signal.SIGKILL)
        counted = done.result()
    wait_until(lambda: fleet(pipeline)["servers"]["s1"]["restarts"] == before + 1)
    wait_until(pipeline.ready)
    told(counted)
    assert (counted.answered, counted.lost) == (count, 0), counted
