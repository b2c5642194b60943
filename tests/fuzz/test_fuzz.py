"""Hostile requests and hostile ONNX files by the hundred; `make sanitize` sends them by the thousand.

Seeds are fixed, so a failure comes again. FUZZ_REQUESTS and FUZZ_MODELS say how many; counts are printed.
"""

import os
import resource
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from multiprocessing import shared_memory
from pathlib import Path

import grpc as rpc
import numpy as np
import pytest
import tritonclient.grpc as grpc
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from server import TritonServer
from server.environment import native
from tests.backend.models import times
from tests.fuzz import hostile_graphs, hostile_requests
from tests.graphs import FLOAT, INT64, graph, infer, inputs_of, publish
from tests.processes import alive, descendants

pytestmark = pytest.mark.slow

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "400"))
MODELS = int(os.environ.get("FUZZ_MODELS", "60"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
WORKERS = 4
TIMEOUT_S = 120  # of one request or load: more is a hang
LARGEST_BYTES = 4 * 2**30  # of tritonserver's memory: a graph that wants more gets an error
BATCHING = "max_batch_size: 8 dynamic_batching { } instance_group { count: 2 kind: KIND_CPU }"

IDENTITY = graph(
    [helper.make_node("Identity", ["x"], ["y"])], [("x", FLOAT, ["n", "m"])], [("y", FLOAT, ["n", "m"])]
)
MODELS_TO_ASK = {
    "plain": (times(2), BATCHING, {"x": ("FP32", (1, 1))}, ["y"]),
    "matrix": (
        IDENTITY,
        BATCHING, {"x": ("FP32", (2, 3))}, ["y"],
    ),
    "bounded": (
        IDENTITY,
        BATCHING + 'parameters { key: "max_shape" value { string_value: "x=8" } }',
        {"x": ("FP32", (2, 3))}, ["y"],
    ),
    "two": (
        graph(
            [helper.make_node("Add", ["x", "y"], ["z"]), helper.make_node("Sub", ["x", "y"], ["d"])],
            [("x", FLOAT, ["n", 2]), ("y", FLOAT, ["n", 2])],
            [("z", FLOAT, ["n", 2]), ("d", FLOAT, ["n", 2])],
        ),
        BATCHING, {"x": ("FP32", (1, 2)), "y": ("FP32", (1, 2))}, ["z", "d"],
    ),
    "look_up": (
        graph([helper.make_node("Gather", ["table", "x"], ["y"])],
              [("x", INT64, ["n", 1])], [("y", FLOAT, ["n", 1])],
              [("table", np.arange(10, dtype=np.float32))]),
        BATCHING, {"x": ("INT64", (1, 1))}, ["y"],
    ),
    "image": (
        graph([helper.make_node("Cast", ["x"], ["y"], to=FLOAT)],
              [("x", TensorProto.UINT8, ["n", 8, 8, 3])], [("y", FLOAT, ["n", 8, 8, 3])]),
        BATCHING, {"x": ("UINT8", (2, 8, 8, 3))}, ["y"],
    ),
    "alone": (
        graph([helper.make_node("Add", ["x", "y"], ["z"])], [("x", FLOAT, ["m"]), ("y", FLOAT, ["m"])],
              [("z", FLOAT, ["m"])]),
        "max_batch_size: 0", {"x": ("FP32", (3,)), "y": ("FP32", (3,))}, ["z"],
    ),
}  # fmt: skip


@pytest.fixture
def server(tmp_path, reports):
    """Explicit model control; afterwards the same process still answers."""
    repository = tmp_path / "models"
    publish(repository, "canary", times(3), BATCHING)
    arguments = ["--model-control-mode=explicit", "--load-model=canary"]
    with TritonServer(repository, arguments=arguments, log=tmp_path / "log") as running:
        triton = descendants(running.pid)[0]
        mapped = Path(f"/proc/{triton}/maps").read_text()
        assert native.LIBRARY in mapped, "the native half is not what is tested"
        if reports:
            assert "libasan" in mapped
        else:  # the sanitizer has a limit of its own
            resource.prlimit(triton, resource.RLIMIT_DATA, (LARGEST_BYTES, LARGEST_BYTES))
        running.repository = repository
        with grpc.InferenceServerClient(running.grpc_url) as client:
            yield running
            assert alive([triton]), f"tritonserver ended; its log is {tmp_path / 'log'}"
            assert infer(client, "canary", x=np.ones((1, 1), np.float32)).as_numpy("y").item() == 3


def side_by_side(work, count):
    """`work(worker, how many)` in each of the workers; the sum of the counters that they return."""
    share = [count // WORKERS + (worker < count % WORKERS) for worker in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(work, range(WORKERS), share), Counter())


def told(what, counts):
    print(f"\n{what} (seed {SEED}): {sum(counts.values())}, answered {dict(sorted(counts.items()))}")


def test_hostile_requests(server, capsys):
    inputs = {name: model[2] for name, model in MODELS_TO_ASK.items()}
    outputs = {name: model[3] for name, model in MODELS_TO_ASK.items()}
    for name, (model, config, *_) in MODELS_TO_ASK.items():
        publish(server.repository, name, model, config)
    region = shared_memory.SharedMemory(create=True, size=hostile_requests.REGION_BYTES)
    try:
        with grpc.InferenceServerClient(server.grpc_url) as client:
            for name in MODELS_TO_ASK:
                client.load_model(name)
            client.register_system_shared_memory(
                hostile_requests.REGION, f"/{region.name}", hostile_requests.REGION_BYTES
            )

        def by_http(worker, count):
            source = hostile_requests.Source(SEED * 1000 + worker, inputs, outputs)
            counts = Counter()
            connection = HTTPConnection(server.http_url, timeout=TIMEOUT_S)
            for _ in range(count):
                path, headers, body = source.http()
                try:
                    connection.request("POST", path, body, headers)
                    answer = connection.getresponse()
                    answer.read()
                    counts[f"HTTP {answer.status}"] += 1
                except (
                    HTTPException,
                    ConnectionError,
                ):  # the server closed this connection; is it still there?
                    connection.close()
                    counts["HTTP closed"] += 1
            connection.close()
            return counts

        def by_grpc(worker, count):
            source = hostile_requests.Source(SEED * 1000 + 500 + worker, inputs, outputs)
            counts = Counter()
            with rpc.insecure_channel(server.grpc_url) as channel:
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                for _ in range(count):
                    try:
                        stub.ModelInfer(source.grpc(service_pb2), timeout=TIMEOUT_S)
                        counts["gRPC OK"] += 1
                    except rpc.RpcError as error:
                        if error.code() == rpc.StatusCode.DEADLINE_EXCEEDED:
                            raise AssertionError("a hang") from error
                        counts[f"gRPC {error.code().name}"] += 1
            return counts

        counts = side_by_side(by_http, REQUESTS // 2) + side_by_side(by_grpc, REQUESTS - REQUESTS // 2)
        assert counts["gRPC UNAVAILABLE"] == 0
        assert counts["HTTP 200"]
        assert counts["HTTP 400"]
    finally:
        region.close()
        region.unlink()
    with capsys.disabled():
        told("hostile requests", counts)


def ask(client, name):
    """One request with small inputs of the types that the loaded model has."""
    config = client.get_model_config(name, as_json=False).config
    arrays = {}
    for entry in config.input:
        dims = [dim if dim > 0 else 2 for dim in entry.dims]
        shape = [1, *dims] if config.max_batch_size else dims
        if np.prod(shape, dtype=float) > 2**20:
            return "too large to ask"
        dtype = triton_to_np_dtype(grpc.model_config_pb2.DataType.Name(entry.data_type).removeprefix("TYPE_"))
        arrays[entry.name] = (
            np.ones(shape, dtype) if dtype != np.object_ else np.full(shape, b"1", np.object_)
        )
    try:
        client.infer(name, inputs_of(arrays), client_timeout=TIMEOUT_S)
    except InferenceServerException as error:
        if error.status() == "StatusCode.DEADLINE_EXCEEDED":
            raise AssertionError("a hang") from error
        return "failed when asked"
    return "answered"


def test_hostile_graphs(server, capsys):
    def load(worker, count):
        source = hostile_graphs.Source(SEED * 1000 + worker)
        counts = Counter()
        name = f"hostile{worker}"
        folder = server.repository / name / "1"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(bytes(4096))
        (folder / "link").symlink_to("/etc/passwd")
        with grpc.InferenceServerClient(server.grpc_url) as client:
            for _ in range(count):
                data, config = source.next()
                (folder / "model.onnx").write_bytes(data)
                (folder.parent / "config.pbtxt").write_text(config)
                try:
                    client.load_model(name, client_timeout=TIMEOUT_S)
                    counts["loaded, " + ask(client, name)] += 1
                except InferenceServerException as error:
                    if error.status() in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"):
                        kept = (
                            Path(os.environ.get("FUZZ_FAILURES", folder.parent))
                            / f"failure-{SEED}-{worker}.onnx"
                        )
                        kept.write_bytes(data)
                        raise AssertionError(f"{error.status()} for the file {kept}") from None
                    counts["refused"] += 1
                    continue
                client.unload_model(name)
        return counts

    counts = side_by_side(load, MODELS)
    assert counts["refused"]
    assert counts["loaded, answered"]
    with capsys.disabled():
        told("hostile ONNX files", counts)
