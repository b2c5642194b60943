"""The client when things go wrong: a slow, full, restarting, dying, closed-off or absent server."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
from server import TritonServer

PROTOCOLS = ("grpc", "http")
QUEUE_LENGTH = 4

# A classifier that takes as long as its first pixel says, in hundredths of a second, one image at a time.
CONFIG = f"""
backend: "python"
max_batch_size: 1
input {{ name: "image" data_type: TYPE_UINT8 dims: [ 2, 2, 3 ] }}
output {{ name: "probabilities" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }}
dynamic_batching {{
  default_queue_policy {{
    max_queue_size: {QUEUE_LENGTH}
    default_timeout_microseconds: 60000000
    allow_timeout_override: true
  }}
}}
parameters {{ key: "weights" value {{ string_value: "random seed 0" }} }}
"""
MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            pixels = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            open(__file__ + ".running", "w").close()
            time.sleep(int(pixels.flat[0]) / 100)
            tensor = pb_utils.Tensor("probabilities", np.array([[0.25, 0.75]], np.float32))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
"""


def lasting(seconds):
    return np.full((2, 2, 3), round(seconds * 100), np.uint8)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    for name, code in (("slow", MODEL), ("broken", "raise RuntimeError('no such luck')")):
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
    prediction = ask_either(kind, url, lasting(0))
    assert prediction.best.label == "slow"
    assert prediction.has_random_weights


@KINDS
@pytest.mark.parametrize("shared_memory", [False, True])
def test_a_time_out_means_the_same_everywhere(kind, url, slow, shared_memory):
    began = time.monotonic()
    with pytest.raises(RequestTimeout, match="--timeout"):
        ask_either(kind, url, lasting(0.8), timeout_s=0.25, shared_memory=shared_memory)
    # With shared memory, closing waits until the server has finished reading the region.
    assert 0.25 <= time.monotonic() - began < (2.5 if shared_memory else 0.7)
    with tritonclient.grpc.InferenceServerClient(slow.grpc_url) as triton:
        assert not triton.get_system_shared_memory_status().regions


def test_the_server_drops_what_nobody_waits_for(url, slow):
    """A request that waits in the queue past its caller's time-out is never executed."""
    with VisionClient(url) as patient, VisionClient(url, timeout_s=0.3, retries=0) as impatient:
        before = executions(slow)
        with ThreadPoolExecutor(3) as threads:
            busy = [threads.submit(patient.classify, lasting(0.4), model="slow") for _ in range(3)]
            until(lambda: pending(slow) >= 2)
            with pytest.raises(RequestTimeout):
                impatient.classify(lasting(0), model="slow")
            assert all(isinstance(future.result(), Prediction) for future in busy)
        patient.classify(lasting(0), model="slow")
        until(lambda: executions(slow) >= before + 4)
        assert executions(slow) == before + 4


@KINDS
def test_a_full_queue_is_reported(kind, url):
    images = [lasting(0.05)] * (3 * QUEUE_LENGTH)
    with pytest.raises(ServerOverloaded, match="queue is full"):
        ask_either(kind, url, images, retries=0)


@KINDS
def test_a_full_queue_is_waited_for(kind, url):
    images = [lasting(0.02)] * (2 * QUEUE_LENGTH)
    assert len(ask_either(kind, url, images, retries=20)) == len(images)


def test_overload_is_the_fault_of_no_other_image(url):
    with VisionClient(url, retries=0) as client:
        results = client.classify([lasting(0.05)] * (3 * QUEUE_LENGTH), model="slow", on_error="return")
    kinds = {type(result) for result in results}
    assert kinds == {Prediction, ServerOverloaded}
    assert all(result.index == i for i, result in enumerate(results) if isinstance(result, ServerOverloaded))


def test_closing_gives_up_what_is_under_way(url, repository):
    running = repository / "slow" / "1" / "model.py.running"
    running.unlink(missing_ok=True)
    client = VisionClient(url)
    with ThreadPoolExecutor(1) as threads:
        request = threads.submit(client.classify, lasting(1.5), model="slow")
        until(running.exists)
        began = time.monotonic()
        client.close()
        with pytest.raises(InferenceFailed, match="the client was closed"):
            request.result()
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_failed_to_load(protocol, open_doors):
    """Where the server tells its repository index; tests/test_client_restarts.py has what else is told."""
    with VisionClient(url_of(open_doors, protocol)) as client:
        with pytest.raises(ModelNotReady, match=r"'broken' is UNAVAILABLE: .*no such luck"):
            client.classify(lasting(0), model="broken")
        broken, slow_model = client.models()
        assert (broken.name, broken.ready, slow_model.ready) == ("broken", False, True)
        assert "no such luck" in broken.reason
        assert not client.health().ready


@KINDS
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_dead_server(kind, protocol, dead_port):
    url = f"{protocol}://127.0.0.1:{dead_port}"
    began = time.monotonic()
    with pytest.raises(ServerUnavailable, match=r"make serve.*--url"):
        ask_either(kind, url, lasting(0))
    assert 0.35 <= time.monotonic() - began < 3  # three waits of 0.1, 0.2 and 0.4 s, each at least halved
    # Raised even so, as no other image could fare better.
    with VisionClient(url, retries=0) as client, pytest.raises(ServerUnavailable):
        client.classify([lasting(0)], on_error="return")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_time_out_bounds_the_retries(protocol, dead_port):
    began = time.monotonic()
    with pytest.raises((ServerUnavailable, RequestTimeout)):  # as the time ends between tries or in one
        ask(f"{protocol}://127.0.0.1:{dead_port}", lasting(0), timeout_s=0.5, retries=1000)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_accepts_and_says_nothing(protocol):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        with pytest.raises((RequestTimeout, ServerUnavailable)):
            ask(f"{protocol}://127.0.0.1:{mute.getsockname()[1]}", lasting(0), timeout_s=0.4)
        assert time.monotonic() - began < 1.5


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


def test_a_server_killed_in_mid_request_and_started_again(repository, tmp_path):
    """Requests in flight fail at once; later ones succeed, though the server forgot the shared memory."""
    running = repository / "slow" / "1" / "model.py.running"
    with TritonServer(repository, log=tmp_path / "first.log") as first, ThreadPoolExecutor() as threads:
        ports = {"http_port": port(first.http_url), "grpc_port": port(first.grpc_url)}
        urls = [url_of(first, protocol) for protocol in PROTOCOLS]
        clients = [VisionClient(url, retries=30, shared_memory=True) for url in urls]
        before = [client.classify([lasting(0)] * 3, model="slow") for client in clients]
        running.unlink()
        lost = [threads.submit(ask, url, lasting(2.5), retries=0) for url in urls]
        until(running.exists)
        kill(first)
        for request in lost:
            with pytest.raises(ServerUnavailable):
                request.result()
        waiting = [threads.submit(ask, url, lasting(0), retries=30) for url in urls]
        with TritonServer(repository, log=tmp_path / "second.log", **ports):
            assert [request.result().best.label for request in waiting] == ["slow", "slow"]
            assert [client.classify([lasting(0)] * 3, model="slow") for client in clients] == before
            for client in clients:
                client.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls(protocol, slow, certificate):
    chain, key = certificate
    with tls_in_front_of(slow, protocol, chain, key) as port:
        url = f"{protocol}s://localhost:{port}"
        assert ask(url, lasting(0), root_certificates=chain).best.label == "slow"
        assert asyncio.run(ask_async(url, lasting(0), root_certificates=chain)).best.label == "slow"
        with pytest.raises(AccessDenied, match="root"):
            ask(url, lasting(0), retries=0)
        with pytest.raises(ServerUnavailable):
            ask(f"{protocol}://localhost:{port}", lasting(0), retries=0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mutual_tls(protocol, slow, certificate):
    chain, key = certificate
    with tls_in_front_of(slow, protocol, chain, key, mutual=True) as port:
        url = f"{protocol}s://localhost:{port}"
        own = {"certificate_chain": chain, "private_key": key}
        assert ask(url, lasting(0), root_certificates=chain, **own).best.label == "slow"
        with pytest.raises((ServerUnavailable, AccessDenied)):
            ask(url, lasting(0), root_certificates=chain, retries=0)


def test_a_client_used_before_a_fork_says_so(slow):
    with VisionClient(slow.http_url, protocol="http") as client:
        client.health()
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            try:
                client.health()
            except RuntimeError as error:
                os._exit(0 if "fork" in str(error) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost that both sides of mutual TLS use, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    chain, key = str(folder / "chain.pem"), str(folder / "key.pem")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*request, *subject, "-keyout", key, "-out", chain], check=True, capture_output=True)
    return chain, key


@contextmanager
def tls_in_front_of(server, protocol, chain, key, mutual=False):
    """A TLS gateway on a free port, as Triton's own HTTP port has none."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["h2"] if protocol == "grpc" else ["http/1.1"])
    if mutual:
        context.load_verify_locations(chain)
        context.verify_mode = ssl.CERT_REQUIRED
    target = (server.grpc_url if protocol == "grpc" else server.http_url).split(":")

    async def forward(reader, writer):
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection(*target)
        await asyncio.gather(forward(reader, upstream_writer), forward(upstream_reader, writer))

    loop = asyncio.new_event_loop()
    gateway = loop.run_until_complete(asyncio.start_server(accept, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield gateway.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        gateway.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def port(url):
    return int(url.rpartition(":")[2])


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited for 20 s in vain"


def metric(server, name):
    """One of Triton's metrics of the slow model."""
    lines = urllib.request.urlopen(server.metrics_url).read().decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f'{name}{{model="slow"')))


def pending(server):
    return metric(server, "nv_inference_pending_request_count")


def executions(server):
    return metric(server, "nv_inference_exec_count")


def kill(server):
    """SIGKILL to tritonserver itself, which is the child of the launcher's guard."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    assert children
