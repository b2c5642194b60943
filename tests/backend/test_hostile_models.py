"""ONNX files made to hurt: each is refused with a reason, or served, and server and other models go on."""

import os
import shutil
import struct

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from server import TritonServer
from server.environment import installation
from server.environment.installation import OUR_BACKENDS
from tests import sanitized
from tests.backend.models import times
from tests.graphs import FLOAT, graph, infer, load, publish
from tests.processes import command_line, descendants, wait_until

ONES = np.ones((1, 1), np.float32)
CONFIG = """max_batch_size: 8 instance_group {{ count: 1 kind: KIND_CPU }}
input {{ name: "x" data_type: TYPE_FP32 dims: {dims} }}
output {{ name: "{output}" data_type: TYPE_FP32 dims: {dims} }}"""


@pytest.fixture(params=["native", pytest.param("python", marks=pytest.mark.slow)], scope="module")
def half(request):
    return request.param


@pytest.fixture(autouse=True)
def others_go_on(client, running, repository):
    """Whatever a test loads, one model that was there before answers after it, in the same process."""
    if not client.is_model_ready("times_two"):
        client.load_model("times_two")
    triton = descendants(running.pid)[0]
    yield
    assert infer(client, "times_two", x=ONES).as_numpy("y").item() == 2
    assert descendants(running.pid)[0] == triton


def refused(client, repository, name, model, config=""):
    with pytest.raises(InferenceServerException) as told:
        load(client, repository, name, model, config)
    return told.value.message()


def renamed(output):
    """times(2) whose output has a name of any kind."""
    model = onnx.load_from_string(times(2))
    model.graph.node[0].output[0] = model.graph.output[0].name = output
    return model.SerializeToString()


def quoted(name):
    return "".join(f"\\{byte:03o}" for byte in name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "y\nlibrary /tmp/evil.so\noutput",
        "y\n",
        "\ny",
        "y\ty",
        "\x7f",
        "\x1b[31m",
        "y\x85library",
        "y\rx",
        "y\0z",
    ],
    ids=repr,
)
@pytest.mark.parametrize("configured", [True, False])
def test_a_name_cannot_become_an_instruction(client, repository, tmp_path, name, configured):
    """It could make tritonserver load a library of the file's choosing."""
    config = CONFIG.format(dims=1, output=quoted(name)) if configured else ""
    assert "control character" in refused(client, repository, f"named_{configured}", renamed(name), config)


@pytest.mark.slow
def test_an_output_that_is_listed_twice_is_answered_once(client, repository):
    model = onnx.load_from_string(times(2))
    model.graph.output.append(model.graph.output[0])
    for config in (CONFIG.format(dims=1, output="y"), ""):
        load(client, repository, "listed_twice", model.SerializeToString(), config)
        answer = infer(client, "listed_twice", x=ONES)
        assert [output.name for output in answer.get_response().outputs] == ["y"]
        assert answer.as_numpy("y").item() == 2
        client.unload_model("listed_twice")
        shutil.rmtree(repository / "listed_twice")


def test_too_many_dimensions_are_counted(client, repository):
    deep = [("x", FLOAT, [1] * 100_000)], [("y", FLOAT, [1] * 100_000)]
    model = graph([helper.make_node("Identity", ["x"], ["y"])], *deep)
    assert "has 100000 dimensions" in refused(client, repository, "deep", model)


def test_a_name_that_is_not_text_is_refused(client, repository):
    broken = renamed("yz").replace(b"yz", b"\xff\xfe")
    assert "not UTF-8" in refused(client, repository, "no_text", broken)


@pytest.mark.parametrize("name", ["y" * 100_000, "größe/日本語", "a b", "'; rm -rf", "%s%n", "x=1,2;"])
def test_other_names_are_names(client, repository, name):
    load(client, repository, "odd_name", renamed(name), CONFIG.format(dims=1, output=quoted(name)))
    assert infer(client, "odd_name", x=ONES).as_numpy(name).item() == 2
    client.unload_model("odd_name")


def external(location, offset=0, length=4, **more):
    """times(2), the factor of which lies in another file."""
    model = onnx.load_from_string(times(2))
    factor = model.graph.initializer[0]
    factor.ClearField("raw_data")
    factor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": str(offset), "length": str(length), **more}.items():
        factor.external_data.add(key=key, value=value)
    return model.SerializeToString()


@pytest.fixture
def secret(tmp_path):
    """A file that is none of the repository's business."""
    file = tmp_path / "secret"
    file.write_bytes(struct.pack("<f", 42))
    return file


def test_external_data_beside_the_graph_is_read(client, repository):
    publish(repository, "beside", external("weights"))
    (repository / "beside" / "1" / "weights").write_bytes(struct.pack("<f", 7))
    client.load_model("beside")
    assert infer(client, "beside", x=ONES).as_numpy("y").item() == 7


def test_a_store_that_links_graph_and_data_from_one_place_is_read(client, repository, tmp_path):
    (tmp_path / "graph").write_bytes(external("weights"))
    (tmp_path / "blob").write_bytes(struct.pack("<f", 5))
    folder = repository / "stored" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in (("model.onnx", "graph"), ("weights", "blob")):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(tmp_path / target)
    client.load_model("stored")
    assert infer(client, "stored", x=ONES).as_numpy("y").item() == 5


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("kind", ["absolute", "above", "link", "linked folder", "memory", "device", "long"])
def test_external_data_elsewhere_is_not_read(client, repository, secret, kind, configured):
    name = f"elsewhere_{kind.replace(' ', '_')}_{configured}"
    folder = repository / name / "1"
    location = {
        "absolute": str(secret),
        "above": os.path.relpath(secret, folder),
        "link": "weights",
        "linked folder": "sub/secret",
        "memory": "*/_ORT_MEM_ADDR_/*",
        "device": "/dev/zero",
        "long": "w" * 5000,
    }[kind]
    folder.mkdir(parents=True, exist_ok=True)
    link = {"link": folder / "weights", "linked folder": folder / "sub"}.get(kind)
    if link and not link.is_symlink():
        link.symlink_to(secret if kind == "link" else secret.parent)
    told = refused(
        client, repository, name, external(location), CONFIG.format(dims=1, output="y") if configured else ""
    )
    assert "keeps a tensor in" in told


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 5), (4, 4), (2**63, 4), (0, 2**64), (-4, 4), (0, -1), ("4x", 4), (" 0", 4)]
)
def test_external_data_beyond_its_file_is_not_read(client, repository, offset, length):
    publish(repository, "beyond", external("weights", offset, length))
    (repository / "beyond" / "1" / "weights").write_bytes(struct.pack("<f", 7))
    with pytest.raises(InferenceServerException, match=r"keeps a tensor in|gives no number"):
        client.load_model("beyond")


def test_external_data_in_a_subgraph_is_looked_at(client, repository, secret):
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["z"], value=helper.make_tensor("t", FLOAT, [1], [1.0]))],
        "branch", [], [helper.make_tensor_value_info("z", FLOAT, [1])],
    )  # fmt: skip
    hidden = branch.node[0].attribute[0].t
    hidden.ClearField("float_data")
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value=str(secret))
    nodes = [
        helper.make_node("If", ["condition"], ["z"], then_branch=branch, else_branch=branch),
        helper.make_node("Mul", ["x", "z"], ["y"]),
    ]
    made = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", 1])],
        initializer=[onnx.numpy_helper.from_array(np.array(True), "condition")],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert "keeps a tensor in" in refused(client, repository, "branch", model.SerializeToString())


@pytest.mark.skipif(sanitized.wanted(), reason="a sanitizer's `operator new` ends the process")
@pytest.mark.parametrize("dims", [[2**62, 2**62], [2**40], [2**63 - 1]])
def test_absurd_dims_are_an_error_and_no_allocation(client, repository, dims):
    """In what the graph declares, and in what it computes from a constant."""
    nodes = [
        helper.make_node("ConstantOfShape", ["dims"], ["vast"]),
        helper.make_node("ReduceMax", ["vast"], ["zero"], keepdims=0),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    model = graph(
        nodes, [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1])], [("dims", np.array(dims, np.int64))]
    )
    try:
        load(client, repository, "vast", model, CONFIG.format(dims=1, output="y"))
        with pytest.raises(InferenceServerException):
            infer(client, "vast", x=ONES)
    except InferenceServerException:
        pass  # refused when it was read
    declared = onnx.load_from_string(times(2))
    for value in (declared.graph.input[0], declared.graph.output[0]):
        del value.type.tensor_type.shape.dim[:]
        for dim in ["n", *dims]:
            field = value.type.tensor_type.shape.dim.add()
            setattr(field, "dim_param" if dim == "n" else "dim_value", dim)
    try:
        load(client, repository, "declared", declared.SerializeToString())
        with pytest.raises(InferenceServerException):
            infer(client, "declared", x=ONES)
    except InferenceServerException:
        pass


@pytest.mark.slow
def test_twenty_thousand_outputs_are_only_many(client, repository, half):
    """They were on a thread's stack, which the Python half has none of: five thousand do there.

    tritonserver itself compares each with each, and the more slowly if they come from a Python process.
    """
    count = 20_000 if half == "native" else 5_000
    names = [f"y{number}" for number in range(count)]
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in names]
    model = graph(nodes, [("x", FLOAT, ["n", 1])], [(name, FLOAT, ["n", 1]) for name in names])
    load(client, repository, "many", model)
    result = infer(client, "many", x=ONES)
    assert len(result.get_response().outputs) == count
    assert result.as_numpy(names[-1]).item() == 1
    client.unload_model("many")


def test_what_is_no_onnx_file_is_refused(client, repository):
    whole = times(2)
    for number, content in enumerate(
        (b"", b"\0" * 64, b"\xff" * 1000, whole[:-7], b"location" * 99, os.urandom(999))
    ):
        refused(client, repository, f"no_onnx_{number}", content)


def test_a_default_filename_outside_the_folder_is_refused(client, repository, tmp_path):
    (tmp_path / "other.onnx").write_bytes(times(2))
    for number, name in enumerate((str(tmp_path / "other.onnx"), "../../times_two/1/model.onnx")):
        config = f'default_model_filename: "{name}" ' + CONFIG.format(dims=1, output="y")
        refused(client, repository, f"filename_{number}", times(2), config)


def with_reader(statement, tmp_path, monkeypatch):
    """A backend whose reader does something more with the model `bad`, once it has looked at its graph."""
    shutil.copytree(OUR_BACKENDS, tmp_path / "backends")
    with (tmp_path / "backends" / "onnxruntime" / "native_plan.py").open("a") as plan:
        plan.write(
            "\n\n_genuine = _reply_for\n\n\ndef _reply_for(version_folder, config, may_complete):\n"
            "    reply = _genuine(version_folder, config, may_complete)\n"
            f"    if version_folder.parent.name == 'bad':\n        {statement}\n    return reply\n"
        )
    monkeypatch.setattr(installation, "OUR_BACKENDS", tmp_path / "backends")


OTHER_TYPE = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)
OTHER_RANK = helper.make_node("Unsqueeze", ["x", "one"], ["y"])
REPLACEMENTS = {
    "type": graph([OTHER_TYPE], [("x", FLOAT, ["n", 1])], [("y", TensorProto.DOUBLE, ["n", 1])]),
    "rank": graph([OTHER_RANK], [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1, 1])],
                  [("one", np.array([1]))]),
    "name": renamed("z"),
    "input": graph(
        [helper.make_node("Cast", ["x"], ["y"], to=FLOAT)],
        [("x", TensorProto.DOUBLE, ["n", 1])], [("y", FLOAT, ["n", 1])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REPLACEMENTS)
def test_a_graph_that_is_replaced_after_it_was_looked_at(tmp_path, monkeypatch, half, what):
    """It was answered with foreign memory: its plan gave the type, and so the bytes, of each output."""
    if half == "python":
        pytest.skip("it looks at its own session")
    (tmp_path / "other").write_bytes(REPLACEMENTS[what])
    replace = f"import shutil; shutil.copy({str(tmp_path / 'other')!r}, version_folder / 'model.onnx')"
    with_reader(replace, tmp_path, monkeypatch)
    publish(tmp_path / "models", "bad", times(2), CONFIG.format(dims=1, output="y"))
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:
        (model,) = server.models()
        assert not model.ready
        assert "was the file replaced" in model.reason


PLAN_TIMEOUT_S = 500
STALL = f"""import signal
        assert signal.alarm(1) > {PLAN_TIMEOUT_S - 200}  # the limit that was set, reached at once
        while True: pass"""
MISBEHAVIOUR = {
    "crashes": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "ended the process that did so (SIGSEGV)",
    ),
    "stalls": (STALL, "took longer than"),
    "bloats": ("bytearray(2**40)", "needs more memory"),
    "leaves": ("import os; os._exit(7)", "ended the process that did so (7)"),
    "lies": ("return b'Pnonsense'", "its plan cannot be used"),
    "is terse": ("return b''", "gave an answer that cannot be read"),
}


@pytest.mark.parametrize("kind", MISBEHAVIOUR)
def test_a_reader_that_misbehaves_costs_one_model(tmp_path, monkeypatch, half, kind):
    """As one would that a file has taken over."""
    if half == "python":
        pytest.skip("no reader there: each model has a process of its own")
    if kind == "crashes" and sanitized.wanted():
        pytest.skip("a sanitizer reports that")
    statement, reason = MISBEHAVIOUR[kind]
    with_reader(statement, tmp_path, monkeypatch)
    monkeypatch.setenv("TRITON_VISION_PLAN_TIMEOUT_S", str(PLAN_TIMEOUT_S))
    for name in ("bad", "good"):
        publish(tmp_path / "models", name, times(3), CONFIG.format(dims=1, output="y"))
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:
        models = {model.name: model for model in server.models()}
        assert models["good"].ready
        assert not models["bad"].ready
        assert reason in models["bad"].reason


def test_a_planner_that_is_killed_is_replaced(client, running, repository, half):
    if half == "python":
        pytest.skip("there is none")
    for name in ("before", "after"):
        load(client, repository, name, times(2), CONFIG.format(dims=1, output="y"))
        planners = [
            pid for pid in descendants(running.pid)
            if b"/planner.py" in command_line(pid)
        ]  # fmt: skip
        os.kill(planners[0], 9)
    wait_until(lambda: infer(client, "after", x=ONES).as_numpy("y").item() == 2)
