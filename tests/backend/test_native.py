"""The native half of the backend: which models it serves, without processes, and what it leaves behind."""

import json
import shutil
import sys
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from onnx import helper

from server import TritonServer
from server.environment import installation, native
from server.environment.installation import OUR_BACKENDS
from tests import sanitized
from tests.backend.models import times
from tests.graphs import FLOAT, STRING, graph, infer, load, publish
from tests.processes import descendants, wait_for_line, without_planner
from tests.stateful import accumulator, config

BACKEND = OUR_BACKENDS / "onnxruntime"
BATCHING = "max_batch_size: 8 dynamic_batching { } instance_group { count: 2 kind: KIND_CPU }"
VALUES = {
    "bool": np.array([[True, False]]),
    **{name: np.array([[np.iinfo(name).min, np.iinfo(name).max]], name)
       for name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")},
    **{name: np.array([[np.finfo(name).min, np.finfo(name).tiny]], name)
       for name in ("float16", "float32", "float64")},
}  # fmt: skip
ONES = np.ones((1, 1), np.float32)


def identity(element_type, dims):
    node = helper.make_node("Identity", ["x"], ["y"])
    return graph([node], [("x", element_type, dims)], [("y", element_type, dims)])


def native_line(name):
    """What the log says of a model in this process."""
    return f"model '{name}' is served by ONNX Runtime in this process"


def post(running, name, request):
    connection = HTTPConnection(running.http_url)
    headers = {"Inference-Header-Content-Length": str(len(request))}
    connection.request("POST", f"/v2/models/{name}/infer", request, headers)
    answer = connection.getresponse()
    status, body = answer.status, answer.read()
    connection.close()  # a server that stops waits for open ones
    return status, body


def resident_mib(running):
    """Of tritonserver, the guard's first child."""
    triton = descendants(running.pid)[0]
    pages = int(Path(f"/proc/{triton}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.parametrize("dtype", VALUES)
def test_every_type_of_number_passes_unchanged(client, running, repository, dtype):
    name = f"identity_{dtype}"
    load(
        client,
        repository,
        name,
        identity(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["n", 2]),
        BATCHING,
    )
    wait_for_line(running.log, native_line(name))
    answer = infer(client, name, x=VALUES[dtype]).as_numpy("y")
    assert answer.dtype == VALUES[dtype].dtype
    np.testing.assert_array_equal(answer, VALUES[dtype])


def test_a_plain_model_starts_no_process(client, running, repository):
    before = without_planner(descendants(running.pid))
    load(client, repository, "plain", times(3), BATCHING)
    assert without_planner(descendants(running.pid)) == before
    assert infer(client, "plain", x=ONES).as_numpy("y").item() == 3


def test_input_is_read_wherever_it_lies(client, running, repository):
    """An HTTP body's numbers begin after a header of any length, and large ones come in several parts."""
    load(client, repository, "anywhere", identity(FLOAT, ["n", "m"]), BATCHING)
    with http.InferenceServerClient(running.http_url) as by_http:
        for length in range(5):
            for items in (3, 1_000_003):
                values = np.arange(items, dtype=np.float32).reshape(1, -1)
                tensor = http.InferInput("x", list(values.shape), "FP32")
                tensor.set_data_from_numpy(values)
                result = by_http.infer("anywhere", [tensor], request_id="i" * length)
                np.testing.assert_array_equal(result.as_numpy("y"), values)


def test_nothing_to_compute_is_answered_with_nothing(client, repository):
    load(client, repository, "empty", identity(FLOAT, ["n", "m"]), BATCHING)
    assert infer(client, "empty", x=np.zeros((2, 0), np.float32)).as_numpy("y").shape == (2, 0)


@pytest.mark.parametrize("shape", [[4, 2**62], [1, 2**62], [1, 2**63 - 1]])
def test_a_shape_beyond_all_memory_is_an_error(client, running, repository, shape):
    """Their elements, or the bytes of these, are 0 or few in 64 bits."""
    name = "vast"
    load(client, repository, name, identity(FLOAT, ["n", "m"]), BATCHING)
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": 0}}
    status, answer = post(running, name, json.dumps({"inputs": [tensor]}))
    assert status >= 400, answer
    assert infer(client, name, x=ONES).as_numpy("y").item() == 1


@pytest.mark.slow
@pytest.mark.skipif(sanitized.wanted(), reason="a sanitizer keeps what is freed")
def test_memory_is_returned(client, running, repository):
    """Of 24 loads of a model of 16 MiB in two instances, and of 2,400 answers of 64 KiB."""
    weights = np.ones(4 * 2**20, np.float32)
    large = graph(
        [helper.make_node("ReduceMax", ["weights"], ["one"]), helper.make_node("Mul", ["x", "one"], ["y"])],
        [("x", FLOAT, ["n", "m"])],
        [("y", FLOAT, ["n", "m"])],
        [("weights", weights)],
    )
    values = np.ones((1, 2**14), np.float32)
    name = "large"
    publish(repository, name, large, BATCHING)
    after = []
    for turn in range(24):
        client.load_model(name)
        for _ in range(100):
            infer(client, name, x=values)
        client.unload_model(name)
        if turn in (11, 23):
            after.append(resident_mib(running))
    assert after[1] - after[0] < 64, "MiB; models that stay would be 384 more, answers 75"


ONE = helper.make_node("Constant", [], ["y"], value=helper.make_tensor("one", FLOAT, [1], [1.0]))
NOT_PLAIN = {
    "no_inputs": (graph([ONE], [], [("y", FLOAT, [1])]), ""),
    "strings": (identity(STRING, ["n", 1]), ""),
    "states": (accumulator(), config()),
    "scalars": (identity(FLOAT, []), 'max_batch_size: 0 input { name: "x" data_type: TYPE_FP32 dims: 1 }'
                ' output { name: "y" data_type: TYPE_FP32 dims: 1 }'),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_not_plain_is_served_by_the_python_half(client, running, repository, name):
    before = without_planner(descendants(running.pid))
    load(client, repository, name, *NOT_PLAIN[name])
    assert set(without_planner(descendants(running.pid))) - set(before)  # one that holds the model
    assert native_line(name) not in running.log.read_text()
    assert client.is_model_ready(name)
    client.unload_model(name)


def test_a_machine_with_a_gpu_leaves_all_to_the_python_half(monkeypatch):
    monkeypatch.syspath_prepend(str(BACKEND))
    import native_plan

    plain = {"input": [{"data_type": "TYPE_FP32"}], "output": [{"data_type": "TYPE_FP32"}]}
    monkeypatch.setattr(native_plan.glob, "glob", lambda pattern: [])
    assert not native_plan.needs_python(plain)
    monkeypatch.setattr(native_plan.glob, "glob", lambda pattern: ["/dev/nvidia0"])
    assert native_plan.needs_python(plain)


@pytest.mark.slow
def test_a_planner_that_fails_is_told_and_the_python_half_serves(tmp_path, monkeypatch):
    shutil.copytree(OUR_BACKENDS, tmp_path / "backends")
    (tmp_path / "backends" / "onnxruntime" / "native_plan.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(installation, "OUR_BACKENDS", tmp_path / "backends")
    publish(tmp_path / "models", "plain", times(3), BATCHING)
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:
        assert all(model.ready for model in server.models())
        assert len(without_planner(descendants(server.pid))) == 3  # tritonserver and two instances
    assert "model 'plain': native_plan.py failed" in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["absent", "broken"])
def test_without_a_working_compiler_the_python_half_serves(reason, tmp_path, monkeypatch, capfd):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho what is C >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(native, "compiler", lambda: [str(broken)] if reason == "broken" else None)
    publish(tmp_path / "models", "plain", times(3), BATCHING)
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:
        client = http.InferenceServerClient(server.http_url)
        tensor = http.InferInput("x", [1, 1], "FP32")
        tensor.set_data_from_numpy(ONES)
        assert client.infer("plain", [tensor]).as_numpy("y").item() == 3
        client.close()
        assert len(without_planner(descendants(server.pid))) == 3  # tritonserver and two instances
    told = capfd.readouterr().err
    assert "pip install ziglang" in told
    assert ("no C compiler" if reason == "absent" else "it says: what is C") in told


def test_the_compiler_is_the_systems_or_ziglangs(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert native.compiler() == ["/usr/bin/cc"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: name == "ziglang")
    assert native.compiler()[:4] == [sys.executable, "-m", "ziglang", "cc"]
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    assert native.compiler() is None
