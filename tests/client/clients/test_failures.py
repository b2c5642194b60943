"""The client when things go wrong: a slow, full, restarting, dying, closed-off or absent server."""

import asyncio
import os
import signal
import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc

from client import (
    AccessDenied,
    AsyncVisionClient,
    InferenceFailed,
    ModelNotReady,
    Prediction,
    RequestTimeout,
    ServerOverloaded,
    ServerUnavailable,
    VisionClient,
)
from client.conversation.flows import RetryPolicy
from server import TritonServer
from tests.held import Gate
from tests.processes import wait_until

PROTOCOLS = ("grpc", "http")
QUEUE_LENGTH = 4
PATIENCE_S = 300  # a time-out that does not end before the test

# A classifier of one image at a time, which waits at the gate if the first pixel is not black.
CONFIG = f"""
backend: "python"
max_batch_size: 1
input {{ name: "image" data_type: TYPE_UINT8 dims: [ 2, 2, 3 ] }}
output {{ name: "probabilities" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }}
dynamic_batching {{
  default_queue_policy {{
    max_queue_size: {QUEUE_LENGTH}
    default_timeout_microseconds: 600000000
    allow_timeout_override: true
  }}
}}
parameters {{ key: "weights" value {{ string_value: "random seed 0" }} }}
"""
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            pixels = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            open(f"{__file__}.answered-{pixels.flat[0]}", "w").close()
            if pixels.flat[0]:
                pass_gate()
            tensor = pb_utils.Tensor("probabilities", np.array([[0.25, 0.75]], np.float32))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
"""


FREE, HELD, NEVER_RUN = (np.full((2, 2, 3), pixel, np.uint8) for pixel in (0, 1, 2))


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    return Gate(tmp_path_factory.mktemp("held") / "gate")


@pytest.fixture(scope="module")
def repository(tmp_path_factory, gate):
    root = tmp_path_factory.mktemp("repository")
    for name, code in (("slow", gate.code + MODEL), ("broken", "raise RuntimeError('no such luck')")):
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(CONFIG)
        (root / name / "labels.txt").write_text("fast\nslow\n")
        (root / name / "1" / "model.py").write_text(code)
    return root


@pytest.fixture(scope="module")
def slow(repository, tmp_path_factory):
    with TritonServer(repository, log=tmp_path_factory.mktemp("slow") / "triton.log") as server:
        yield server


@pytest.fixture(scope="module")
def open_doors(repository):
    with TritonServer(repository, opened=("model-repository",), log=os.devnull) as server:
        yield server


def url_of(server, protocol):
    return f"{protocol}://{server.grpc_url if protocol == 'grpc' else server.http_url}"


@pytest.fixture(params=PROTOCOLS)
def url(request, slow):
    return url_of(slow, request.param)


@pytest.fixture(scope="module")
def dead_port():
    """Bound but not listening, so that nobody else takes it: connections are refused."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


def ask(url, image, **options):
    with VisionClient(url, **options) as client:
        return client.classify(image, 1, model="slow")


async def ask_async(url, image, **options):
    async with AsyncVisionClient(url, **options) as client:
        return await client.classify(image, 1, model="slow")


def ask_either(kind, *arguments, **options):
    if kind == "blocking":
        return ask(*arguments, **options)
    return asyncio.run(ask_async(*arguments, **options))


KINDS = pytest.mark.parametrize("kind", ["blocking", "asyncio"])


@KINDS
def test_random_weights_are_announced(kind, url):
    prediction = ask_either(kind, url, FREE)
    assert prediction.best.label == "slow"
    assert prediction.has_random_weights


@pytest.mark.parametrize("shared_memory", [False, True])
def test_a_time_out_means_the_same_everywhere(url, slow, gate, shared_memory):
    with gate.closed(), VisionClient(url, timeout_s=0.5, shared_memory=shared_memory) as client:
        with pytest.raises(RequestTimeout, match="--timeout"):
            client.classify(HELD, model="slow")
        gate.open()  # with shared memory, closing waits until the server has finished reading the region
    assert_no_region_is_left(slow)


@pytest.mark.parametrize("shared_memory", [False, True])
def test_a_time_out_means_the_same_to_asyncio(url, slow, gate, shared_memory):
    async def run():
        async with AsyncVisionClient(url, timeout_s=0.5, shared_memory=shared_memory) as client:
            with pytest.raises(RequestTimeout, match="--timeout"):
                await client.classify(HELD, model="slow")
            gate.open()

    with gate.closed():
        asyncio.run(run())
    assert_no_region_is_left(slow)


def assert_no_region_is_left(server):
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as triton:
        assert not triton.get_system_shared_memory_status().regions


@contextmanager
def full(server, gate, url):
    """One request is held at the gate, and the queue behind it is full; all are answered in the end."""
    client = VisionClient(url, timeout_s=PATIENCE_S, concurrency=1 + QUEUE_LENGTH)
    with client, ThreadPoolExecutor(1 + QUEUE_LENGTH) as threads, gate.closed():
        held = [threads.submit(client.classify, HELD, model="slow")]
        gate.wait_until_held()
        held += [threads.submit(client.classify, HELD, model="slow") for _ in range(QUEUE_LENGTH)]
        wait_until(lambda: pending(server) == QUEUE_LENGTH)
        yield
        gate.open()
        assert all(isinstance(future.result(), Prediction) for future in held)


def test_the_server_drops_what_nobody_waits_for(url, slow, gate, repository):
    """A request that waits in the queue past its caller's time-out is never executed."""
    patient, hasty = VisionClient(url, timeout_s=PATIENCE_S), VisionClient(url, timeout_s=1, retries=0)
    with patient, hasty, ThreadPoolExecutor() as threads:
        with gate.closed():
            held = threads.submit(patient.classify, HELD, model="slow")
            gate.wait_until_held()
            with pytest.raises(RequestTimeout):
                hasty.classify(NEVER_RUN, model="slow")
            with pytest.raises(RequestTimeout):  # then the first is too old at the server, too
                hasty.classify(FREE, model="slow")
        assert isinstance(held.result(), Prediction)
        patient.classify(FREE, model="slow")  # behind the others in the queue
    assert not (repository / "slow" / "1" / "model.py.answered-2").exists()


@KINDS
def test_a_full_queue_is_reported(kind, url, slow, gate):
    with full(slow, gate, url), pytest.raises(ServerOverloaded, match="queue is full"):
        ask_either(kind, url, [FREE] * 3, retries=0)


@KINDS
def test_a_full_queue_is_waited_for(kind, url, slow, gate, monkeypatch):
    refused = threading.Event()

    def wait_s(policy, attempt):  # asked for when a try was refused
        refused.set()
        return 0.1

    monkeypatch.setattr(RetryPolicy, "wait_s", wait_s)
    images, patience = [FREE] * (2 * QUEUE_LENGTH), {"retries": 1000, "timeout_s": PATIENCE_S}
    with ThreadPoolExecutor(1) as threads:
        with full(slow, gate, url):
            answers = threads.submit(ask_either, kind, url, images, **patience)
            assert refused.wait(PATIENCE_S)
        assert len(answers.result()) == len(images)


def test_overload_is_the_fault_of_no_other_image(url, slow, gate):
    images = [FREE] * 50
    with VisionClient(url, retries=0, concurrency=1, timeout_s=PATIENCE_S) as client:
        results = client.classify_iter(images, model="slow", on_error="return")
        with full(slow, gate, url):
            first = next(results)
        assert isinstance(first, ServerOverloaded)
        assert first.index == 0
        assert isinstance(list(results)[-1], Prediction)


@pytest.mark.parametrize("shared_memory", [False, True])
def test_closing_gives_up_what_is_under_way(url, slow, gate, shared_memory):
    client = VisionClient(url, timeout_s=PATIENCE_S, shared_memory=shared_memory)
    with ThreadPoolExecutor(2) as threads, gate.closed():
        request = threads.submit(client.classify, HELD, model="slow")
        gate.wait_until_held()
        closing = threads.submit(client.close)
        with pytest.raises(InferenceFailed, match="the client was closed"):
            request.result()
        assert gate.held() == 1
        gate.open()
        closing.result()
    assert_no_region_is_left(slow)


@pytest.mark.parametrize("shared_memory", [False, True])
def test_closing_gives_up_what_asyncio_has_under_way(url, slow, gate, shared_memory):
    async def run():
        client = AsyncVisionClient(url, timeout_s=PATIENCE_S, shared_memory=shared_memory)
        request = asyncio.create_task(client.classify(HELD, model="slow"))
        await asyncio.to_thread(gate.wait_until_held)
        closing = asyncio.create_task(client.close())
        with pytest.raises(InferenceFailed, match="the client was closed"):
            await request
        gate.open()
        await closing

    with gate.closed():
        asyncio.run(run())
    assert_no_region_is_left(slow)


def test_closing_ends_a_list_of_which_some_have_not_begun(url, gate):
    client = VisionClient(url, timeout_s=PATIENCE_S, concurrency=1)
    results = client.classify_iter([HELD] * 3, model="slow", on_error="return")
    with ThreadPoolExecutor(1) as threads, gate.closed():
        listed = threads.submit(list, results)
        gate.wait_until_held()
        client.close()
        with pytest.raises(RuntimeError, match="this VisionClient is closed"):
            listed.result()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_failed_to_load(protocol, open_doors):
    """Where the server tells its repository index; conversation/test_retrying.py has the rest."""
    with VisionClient(url_of(open_doors, protocol)) as client:
        with pytest.raises(ModelNotReady, match=r"'broken' is UNAVAILABLE: .*no such luck"):
            client.classify(FREE, model="broken")
        broken, slow_model = client.models()
        assert (broken.name, broken.ready, slow_model.ready) == ("broken", False, True)
        assert "no such luck" in broken.reason
        assert not client.health().ready


@KINDS
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_dead_server(kind, protocol, dead_port):
    url = f"{protocol}://127.0.0.1:{dead_port}"
    with pytest.raises(ServerUnavailable, match=r"make serve.*--url"):
        ask_either(kind, url, FREE)
    # Raised even so, as no other image could fare better.
    with VisionClient(url, retries=0) as client, pytest.raises(ServerUnavailable):
        client.classify([FREE], on_error="return")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_time_out_bounds_the_retries(protocol, dead_port):
    with pytest.raises((ServerUnavailable, RequestTimeout)):  # as the time ends between tries or in one
        ask(f"{protocol}://127.0.0.1:{dead_port}", FREE, timeout_s=0.5, retries=10**6)  # else for weeks


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_accepts_and_says_nothing(protocol):
    timed_out = pytest.raises((RequestTimeout, ServerUnavailable))
    with socket.create_server(("127.0.0.1", 0)) as mute, timed_out:
        ask(f"{protocol}://127.0.0.1:{mute.getsockname()[1]}", FREE, timeout_s=0.4)


@pytest.mark.slow
def test_headers_open_what_the_server_restricts(repository):
    arguments = ["--http-restricted-api=model-repository,statistics:pass-word=sesame"]
    arguments += ["--grpc-restricted-protocol=model-repository,statistics:pass-word=sesame"]
    with TritonServer(repository, arguments=arguments, log=os.devnull) as server:
        for protocol, name in (("grpc", "triton-grpc-protocol-Pass-Word"), ("http", "Pass-Word")):
            url = url_of(server, protocol)
            with VisionClient(url) as stranger, pytest.raises(AccessDenied, match="--header"):
                stranger.models()
            with VisionClient(url, headers={name: "sesame"}) as friend:
                assert [model.name for model in friend.models()] == ["broken", "slow"]


def test_a_server_killed_in_mid_request_and_started_again(repository, gate, tmp_path):
    """Requests in flight fail at once; later ones succeed, though the server forgot the shared memory."""
    with TritonServer(repository, log=tmp_path / "first.log") as first, ThreadPoolExecutor() as threads:
        ports = {"http_port": port(first.http_url), "grpc_port": port(first.grpc_url)}
        urls = [url_of(first, protocol) for protocol in PROTOCOLS]
        clients = [VisionClient(url, retries=1000, timeout_s=PATIENCE_S, shared_memory=True) for url in urls]
        before = [client.classify([FREE] * 3, model="slow") for client in clients]
        with gate.closed():
            lost = [threads.submit(ask, url, HELD, retries=0, timeout_s=PATIENCE_S) for url in urls]
            gate.wait_until_held()
            wait_until(lambda: pending(first) == 1)
            kill(first)
            for request in lost:
                with pytest.raises(ServerUnavailable):
                    request.result()
        waiting = [threads.submit(ask, url, FREE, retries=1000, timeout_s=PATIENCE_S) for url in urls]
        with TritonServer(repository, log=tmp_path / "second.log", **ports):
            assert [request.result().best.label for request in waiting] == ["slow", "slow"]
            assert [client.classify([FREE] * 3, model="slow") for client in clients] == before
            for client in clients:
                client.close()


def test_a_client_used_before_a_fork_says_so(slow):
    with VisionClient(slow.http_url, protocol="http") as client:
        client.health()
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            signal.alarm(PATIENCE_S)
            try:
                client.health()
            except RuntimeError as error:
                client.close()  # harms nobody
                os._exit(0 if "fork" in str(error) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.health()


def port(url):
    return int(url.rpartition(":")[2])


def pending(server):
    """How many requests wait in the slow model's queue, by Triton's metrics."""
    lines = urllib.request.urlopen(server.metrics_url).read().decode().splitlines()
    start = 'nv_inference_pending_request_count{model="slow"'
    return float(next(line.split()[-1] for line in lines if line.startswith(start)))


def kill(server):
    """SIGKILL to tritonserver itself, which is the child of the launcher's guard."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    assert children
