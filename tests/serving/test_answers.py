"""Answers that leave when `execute` has given the batch back: handing over, errors, unloads, stops."""

import shutil
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from export import model_code
from server import TritonServer
from tests.held import Gate
from tests.launcher import write_model
from tests.processes import wait_until

MODEL = """
import functools
import triton_python_backend_utils as pb_utils
from answers import Answers

class TritonPythonModel:
    def initialize(self, args):
        self.answers = Answers()

    def execute(self, requests):
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            self.answers.give(request, functools.partial(respond, values))

    def finalize(self):
        self.answers.close()
        print("ended in order", flush=True)

def respond(values):
    if values.item() >= 100:
        pass_gate()
    if values.item() == 13:
        raise ValueError("thirteen")
    return pb_utils.InferenceResponse([pb_utils.Tensor("y", values)])
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { kind: KIND_CPU count: 1 }
dynamic_batching { default_queue_policy { max_queue_size: 64 } }
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    return Gate(tmp_path_factory.mktemp("answers") / "gate")


@pytest.fixture(scope="module")
def server(tmp_path_factory, gate):
    folder = tmp_path_factory.mktemp("served")
    model = write_model(folder / "models", "echo", gate.code + MODEL, CONFIG)
    for served in ("answers", "unforeseen"):
        shutil.copy(next(iter(model_code.__path__)) + f"/serving/{served}.py", model / "1")
    with TritonServer(folder / "models", log=folder / "log") as running:
        yield running


@pytest.fixture
def client(server):
    with grpc.InferenceServerClient(server.grpc_url) as client:
        yield client


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as pool:
        yield pool


def tensor(value):
    tensor = grpc.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[value]], np.float32))
    return [tensor]


def ask(client, value):
    reply = client.infer("echo", tensor(value), client_timeout=600)  # one that is lost has an end
    return reply.as_numpy("y").item()


def waiting(server):
    lines = urllib.request.urlopen(server.metrics_url).read().decode().splitlines()
    start = 'nv_inference_pending_request_count{model="echo"'
    return int(next(line.split()[-1] for line in lines if line.startswith(start)))


def test_the_next_batch_is_there_before_the_last_answer_and_no_more_than_one(server, client, pool, gate):
    before = server.statistics("echo")[1]
    with gate.closed():
        first = pool.submit(ask, client, 100)
        gate.wait_until_held()
        wait_until(lambda: server.statistics("echo")[1] == before + 1)  # given back, and not answered
        second = pool.submit(ask, client, 1)
        wait_until(lambda: waiting(server) == 0)
        others = [pool.submit(ask, client, value) for value in range(2, 7)]
        wait_until(lambda: waiting(server) == len(others))  # they stay in the queue, which is bounded
        assert not any(answer.done() for answer in (first, second, *others))
    assert [answer.result() for answer in (first, second, *others)] == [100, 1, 2, 3, 4, 5, 6]


def test_an_answer_that_cannot_be_made_fails_alone(client, pool, gate):
    with gate.closed():
        first = pool.submit(ask, client, 100)
        gate.wait_until_held()
        batch = [pool.submit(ask, client, value) for value in (7, 13, 8, 13, 9)]
    failed = [batch.pop(place).exception() for place in (3, 1)]
    assert [answer.result() for answer in (first, *batch)] == [100, 7, 8, 9]
    for error in failed:
        assert isinstance(error, InferenceServerException)
        assert error.status() == "StatusCode.INTERNAL"
        assert error.message() == "the model failed on this request: ValueError"


def test_who_cancels_costs_the_others_nothing(client, pool, gate):
    gone = threading.Event()
    with gate.closed():
        call = client.async_infer("echo", tensor(100), lambda result, error: gone.set())
        gate.wait_until_held()
        others = [pool.submit(ask, client, value) for value in (1, 2)]
        call.cancel()
        gone.wait()
    assert [answer.result() for answer in others] == [1, 2]
    assert ask(client, 3) == 3


def test_an_unload_waits_for_the_answer_in_hand(server, client, pool, gate):
    with gate.closed():
        answer = pool.submit(ask, client, 100)
        gate.wait_until_held()
        server.run.api.unload("echo")
        with pytest.raises(InferenceServerException, match="no available versions"):
            ask(client, 1)
        assert not answer.done()
    assert answer.result() == 100
    server.run.api.load("echo", 60)
    assert ask(client, 2) == 2


def test_a_stop_waits_for_the_answer_in_hand(server, client, pool, gate):
    with gate.closed():
        answer = pool.submit(ask, client, 100)
        gate.wait_until_held()
        stopped = pool.submit(server.stop)
        wait_until(lambda: server.stopped)
        assert not answer.done()
    assert answer.result() == 100
    assert stopped.result() == 0
