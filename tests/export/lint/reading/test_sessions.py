"""Graphs that hang, crash or eat memory do so in a process of their own, and the linter goes on."""

import json
import os
import signal
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from export.common.release import RELEASES
from export.lint import lint
from export.lint.graph_checks.operators import operators_of
from export.lint.reading.sessions import BATCH, WORKER, Sessions
from export.lint.reading.skeleton import SMALL_ELEMENTS, skeleton
from tests.lint_corpus.onnx_graphs import FLOAT, INT64, VIEW, operators
from tests.lint_corpus.parts import FOUR, but_queues, model, write
from tests.processes import halt

FLOATS = SMALL_ELEMENTS + 1
node = helper.make_node


def large(name: str = "w", location: str = "") -> TensorProto:
    """A weight of more than a few elements; in a file where a location is given."""
    tensor = helper.make_tensor(name, FLOAT, [4, FLOATS], bytes(16 * FLOATS), raw=True)
    if location:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    return tensor


WEIGHTED = operators(
    node("MatMul", ["x", "w"], ["y"]), outputs={"y": (FLOAT, ["N", "K"])}, initializers=[large()]
)
BOMB = operators(  # 16 TB of zeros that constant folding would make
    node("ConstantOfShape", ["huge"], ["zeros"]),
    node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
    node("Add", ["x", "sum"], ["y"]),
    initializers=[helper.make_tensor("huge", INT64, [1], [1 << 42])],
)


@pytest.fixture
def sessions():
    with Sessions() as started:
        yield started


def ask(sessions, tmp_path, graph: bytes, level: int = 0):
    file = tmp_path / "model.onnx"
    file.write_bytes(graph)
    return sessions.ask(onnx.load_from_string(graph), file, level, {"x"})


@pytest.mark.parametrize(
    ("level", "dims"), [(0, (-1, 12)), (-1, (-1, 12)), (1, (-1, 12)), (2, (-1, -1)), (7, (-1, 12))]
)
def test_dims_are_those_of_the_configured_level(sessions, tmp_path, level, dims):
    facts = ask(sessions, tmp_path, VIEW, level)
    assert facts.outputs == {"y": dims}
    assert facts.with_batch == {"y": (BATCH, 12)}


def test_weights_stay_behind(sessions, tmp_path):
    bare = skeleton(onnx.load_from_string(WEIGHTED), tmp_path)
    assert not bare.graph.initializer
    assert bare.ByteSize() < len(WEIGHTED) / 10
    assert ask(sessions, tmp_path, WEIGHTED).outputs == {"y": (-1, FLOATS)}


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link", "gone"])
def test_weights_outside_the_folder_are_not_read(sessions, tmp_path, location):
    (tmp_path / "secret").write_bytes(bytes(16 * FLOATS))
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    small = helper.make_tensor("b", FLOAT, [1], [0])
    small.ClearField("float_data")
    small.data_location = TensorProto.EXTERNAL
    small.external_data.add(key="location", value=location)
    facts = ask(sessions, folder, operators(node("Add", ["x", "b"], ["y"]), initializers=[small]))
    assert facts.unknown
    assert not facts.outputs
    matmul = operators(node("MatMul", ["x", "w"], ["y"]), outputs={"y": (FLOAT, ["N", "K"])},
                       initializers=[large(location=location)])  # fmt: skip
    assert ask(sessions, folder, matmul).outputs == {"y": (-1, FLOATS)}  # needs none of it


def test_small_weights_beside_the_graph_are_read(sessions, tmp_path):
    (tmp_path / "sizes").write_bytes((12).to_bytes(8, "little") * 2)
    shape = helper.make_tensor("shape", INT64, [2], [0, 0])
    shape.ClearField("int64_data")
    shape.data_location = TensorProto.EXTERNAL
    shape.external_data.add(key="location", value="sizes")
    reshape = operators(
        node("Reshape", ["x", "shape"], ["y"]), outputs={"y": (FLOAT, None)}, initializers=[shape]
    )
    assert ask(sessions, tmp_path, reshape).outputs == {"y": (12, 12)}


def test_a_graph_that_eats_memory_hurts_nobody(sessions, tmp_path):
    ask(sessions, tmp_path, BOMB)
    assert ask(sessions, tmp_path, VIEW).outputs == {"y": (-1, 12)}


def test_a_worker_that_dies_or_hangs_is_replaced(sessions, tmp_path, monkeypatch):
    ask(sessions, tmp_path, VIEW)
    os.kill(sessions._worker.pid, signal.SIGKILL)
    assert ask(sessions, tmp_path, VIEW).unknown
    assert ask(sessions, tmp_path, VIEW).outputs == {"y": (-1, 12)}
    monkeypatch.setattr("export.lint.reading.sessions.GRAPH_TIMEOUT_S", 0.5)
    halt(sessions._worker.pid)
    hanging = sessions._worker
    assert ask(sessions, tmp_path, VIEW).unknown
    assert hanging.poll() is not None
    assert ask(sessions, tmp_path, VIEW).outputs == {"y": (-1, 12)}


def test_without_onnx_runtime_dims_are_taken_as_declared(tmp_path, monkeypatch):
    silent = tmp_path / "worker.py"
    silent.write_text('print(\'{"error": "onnxruntime cannot be imported"}\')\n')
    monkeypatch.setattr("export.lint.reading.sessions.WORKER", silent)
    open_config = FOUR.replace("[ 4 ] }\noutput", "[ 3, 4 ] }\noutput").replace("dims: [ 4 ]", "dims: [ 12 ]")
    (finding,) = but_queues(lint(write(tmp_path / "models", model(open_config, VIEW))))
    assert (finding.code, finding.severity) == ("TV214", "warning")
    assert "onnxruntime cannot be imported" in finding.message


def test_no_process_is_left_behind(tmp_path):
    with Sessions() as sessions:
        ask(sessions, tmp_path, VIEW)
        worker = sessions._worker
    assert worker.poll() is not None


def test_the_worker_needs_nothing_of_ours(tmp_path):
    job = json.dumps({"level": 0, "bytes": len(VIEW)}).encode() + b"\n" + VIEW
    done = subprocess.run(
        [sys.executable, "-I", WORKER], input=job, capture_output=True, cwd=tmp_path, check=True
    )
    version, answer = map(json.loads, done.stdout.splitlines())
    assert version["version"]
    assert answer == {"outputs": {"y": [-1, 12]}}


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_each_release_has_the_table_of_its_operators(release):
    table = operators_of(release)
    assert table["onnxruntime"] == release.onnxruntime
    assert table["domains"][""] == release.max_opset
