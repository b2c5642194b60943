"""`python -m export check-batching`: models that a real server serves, asked from outside."""

import json

import numpy as np
import pytest
from onnx import helper

from export.cli.commands import COMMANDS, DEFAULT, run
from export.pipelines.serving.connections import connect
from export.pipelines.serving.independence import check_independence
from export.pipelines.serving.remote import RemoteModel
from server import TritonServer
from tests.graphs import FLOAT, INT64, graph, publish
from tests.lint_corpus.parts import write
from tests.stateful import accumulator, oldest, state
from tests.stateful import config as sequences

W = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
ROWS = ["n", 8]
TENSORS = """\
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [8] }
output { name: "y" data_type: TYPE_FP32 dims: [4] }
"""
# Requests that were sent at once wait for each other: whether they share an execution is no matter of luck.
BATCHING = TENSORS + "dynamic_batching { max_queue_delay_microseconds: 2000 }"
SEQUENCES = sequences(state(), strategy=oldest(delay_us=50_000))


def linear(*after: tuple) -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a" if after else "y"]), *after]
    weights = [("w", W), ("zero", np.array([0]))]
    return graph(nodes, [("x", FLOAT, ROWS)], [("y", FLOAT, ["n", 4])], weights)


def node(kind: str, inputs: str, output: str = "y", **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def lengths(most: int | None = None) -> tuple[bytes, str]:
    """The mean of rows of any number, up to `most`."""
    made = graph(
        [node("ReduceMean", "x one", keepdims=0)],
        [("x", FLOAT, ["n", "rows", 4])],
        [("y", FLOAT, ["n", 4])],
        [("one", np.array([1]))],
    )
    bound = f'parameters {{ key: "max_shape" value {{ string_value: "x={most},-1" }} }}' if most else ""
    return made, BATCHING.replace("dims: [8]", "dims: [-1, 4]") + bound


def leaking() -> bytes:
    """Adds up the state of all sequences in the batch, where it should be that of one."""
    return graph(
        [
            node("Add", "x total", "total_next"),
            node("ReduceSum", "total_next zero", "all"),
            node("Add", "total_next all", "y"),
        ],
        [("x", FLOAT, ["n", 1]), ("total", FLOAT, ["n", 1])],
        [("y", FLOAT, ["n", 1]), ("total_next", FLOAT, ["n", 1])],
        [("zero", np.array([0]))],
    )


MODELS = {
    "plain": (linear(), BATCHING),
    "mixing": (linear(node("ReduceMax", "a", "m", keepdims=0), node("Div", "a m")), BATCHING),
    "softmax": (linear(node("Softmax", "a", axis=0)), BATCHING),
    "noise": (linear(node("RandomNormalLike", "a", "r", scale=9.0), node("Add", "a r")), BATCHING),
    "alone": (linear(), TENSORS.replace("max_batch_size: 8", "max_batch_size: 0").replace("[", "[-1, ")),
    "unbatched": (linear(), TENSORS),
    "lengths": lengths(),
    "bounded": lengths(50),
    "ids": (
        graph(
            [node("Gather", "table x", "e"), node("ReduceMean", "e one", keepdims=0)],
            [("x", INT64, ["n", "length"])],
            [("y", FLOAT, ["n", 4])],
            [("table", W), ("one", np.array([1]))],
        ),
        BATCHING.replace("TYPE_FP32 dims: [8]", "TYPE_INT64 dims: [-1]"),
    ),
    "padding": (  # an index of 0, which pads, changes the answers of all
        graph(
            [
                *(
                    node("Gather", "table x", "e"),
                    node("Equal", "x pad", "p"),
                    node("Cast", "p", "f", to=FLOAT),
                ),
                *(node("ReduceMax", "f", "m", keepdims=0), node("Add", "e m", "a")),
                node("ReduceMean", "a one", keepdims=0),
            ],
            [("x", INT64, ["n", "length"])],
            [("y", FLOAT, ["n", 4])],
            [("table", np.tile(W, (40, 1))), ("one", np.array([1])), ("pad", np.array(0))],
        ),
        BATCHING.replace("TYPE_FP32 dims: [8]", "TYPE_INT64 dims: [-1]"),
    ),
    "one_number": (
        graph(
            [node("ReduceSum", "x one", keepdims=0)],
            [("x", FLOAT, ROWS)],
            [("y", FLOAT, ["n"])],
            [("one", np.array([1]))],
        ),
        BATCHING.replace("dims: [4]", "dims: [1] reshape { shape: [] }"),
    ),
    "sums": (accumulator(), SEQUENCES),
    "leaking": (leaking(), SEQUENCES),
}


PYTHON = 'backend: "python"\n' + BATCHING
# Calls the model that `{}` says, and fails as people's code does where that is not loaded.
CALLING_PY = """\
import json
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.parameters = json.loads(args["model_config"])["parameters"]

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x")
            called = pb_utils.InferenceRequest(model_name={}, requested_output_names=["y"], inputs=[x]).exec()
            responses.append(pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", pb_utils.get_output_tensor_by_name(called, "y").as_numpy())]
            ))
        return responses
"""
CALLERS = {
    "by_code": ('"plain"', PYTHON),
    "by_code_mixing": ('"mixing"', PYTHON),
    "by_constant": ('NAMES["first"]', PYTHON),
    "by_parameter": (
        'self.parameters["callee"]["string_value"]',
        PYTHON + 'parameters { key: "callee" value { string_value: "plain" } }',
    ),
    "by_caller": ('"by_code_mixing"', PYTHON),
    "by_sum": ('"pla" + "in"', PYTHON),
}


def steps(*names: str) -> str:
    """An ensemble that asks each with x; the first makes y0, and so on."""
    step = 'step {{ model_name: "{0}" model_version: -1 input_map {{ key: "x" value: "x" }} '
    step += 'output_map {{ key: "y" value: "y{1}" }} }}'
    made = " ".join(step.format(name, at) for at, name in enumerate(names))
    outputs = "".join(
        f'output {{ name: "y{at}" data_type: TYPE_FP32 dims: [4] }}\n' for at in range(len(names))
    )
    inputs = TENSORS[: TENSORS.index("output")]
    return f'platform: "ensemble"\n{inputs}{outputs}ensemble_scheduling {{ {made} }}'


ENSEMBLES = {
    "both": steps("plain", "mixing"),
    "sound": steps("plain"),
    "slow": steps("unbatched"),
    "over_code": steps("by_code_mixing"),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "models"
    for name, (made, config) in MODELS.items():
        publish(folder, name, made, config)
    return folder


@pytest.fixture(scope="module")
def calling(repository):
    """The same, with models that call others."""
    files = {f"{name}/config.pbtxt": config for name, config in ENSEMBLES.items()}
    files |= {f"{name}/1": None for name in ENSEMBLES}
    for name, (called, config) in CALLERS.items():
        files |= {f"{name}/config.pbtxt": config, f"{name}/1/model.py": CALLING_PY.replace("{}", called)}
    files["by_constant/1/model.py"] = 'NAMES = {"first": "plain"}\n' + files["by_constant/1/model.py"]
    return write(repository, files)


def checked(folder, name: str, capsys, *more: str) -> tuple[int, dict]:
    code = run(["check-batching", name, "--model-repository", str(folder), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def running(repository):
    with TritonServer(repository, log=repository.parent / "log") as server:
        assert [model for model in server.models() if not model.ready] == []
        yield server


def verdict(url: str, name: str, capsys, *more: str) -> tuple[int, dict]:
    code = run(["check-batching", name, "--url", url, "--json", *more])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "lengths", "bounded", "ids", "one_number", "sums"])
def test_a_model_that_answers_as_alone_passes(running, name: str, capsys):
    code, found = verdict(running.grpc_url, name, capsys)
    assert (code, found["kind"]) == (0, "independent")
    assert [output["depends"] for output in found["outputs"]] == [False]
    assert found["most_items"] > 1, "requests did share executions"
    assert found["failed"] == []


@pytest.mark.parametrize("name", ["mixing", "softmax", "leaking", "padding"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_model_that_mixes_its_batch_is_told(running, name: str, protocol: str, capsys):
    code, found = verdict(f"{protocol}://{getattr(running, f'{protocol}_url')}", name, capsys)
    assert (code, found["kind"]) == (1, "depends")
    assert found["outputs"][0]["depends"]
    assert found["outputs"][0]["largest_difference"] > 1e-3
    assert found["outputs"][0]["said"]


def test_what_answers_at_random_is_told(running, capsys):
    code, found = verdict(running.grpc_url, "noise", capsys)
    assert code == 1
    assert "is another each time" in found["outputs"][0]["said"]


def test_integers_that_were_not_tried_are_told(running, capsys):
    assert "integers of 0 to 1 were tried for x" in verdict(running.grpc_url, "ids", capsys)[1]["notes"][0]
    assert verdict(running.grpc_url, "plain", capsys)[1]["notes"] == []


def test_a_model_without_batches_has_nothing_to_depend_on(running, capsys):
    code, found = verdict(running.grpc_url, "alone", capsys)
    assert (code, found["kind"]) == (0, "not batched")
    code, found = verdict(running.grpc_url, "unbatched", capsys)
    assert (code, found["kind"]) == (0, "independent")
    assert "it has no dynamic_batching" in found["notes"][0]


def test_either_protocol_is_found_out(running):
    for url, protocol in ((running.http_url, "HTTP"), (running.grpc_url, "gRPC")):
        with connect(url) as connection:
            assert connection.name == protocol
            assert check_independence(RemoteModel(connection, "plain")).kind == "independent"


@pytest.mark.slow
def test_bounds_that_the_model_declares_are_kept(running, capsys):
    _, found = verdict(running.grpc_url, "bounded", capsys)
    assert "50" in found["sizes"]
    assert all(int(size) <= 50 for size in found["sizes"])


def test_samples_and_tolerances_can_be_given(running, tmp_path, capsys):
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.random.default_rng(3).normal(size=(5, 8)).astype(np.float32))
    code, found = verdict(running.grpc_url, "mixing", capsys, "--samples", str(samples))
    assert (code, found["items"]) == (1, 5)
    code, _ = verdict(running.grpc_url, "noise", capsys, "--samples", str(samples), "--tolerance", "1e9")
    assert code == 0
    np.savez(samples, x=np.zeros((5, 9), np.float32))
    assert run(["check-batching", "plain", "--url", running.grpc_url, "--samples", str(samples)]) == 2
    assert "the model takes float32 of [8]" in capsys.readouterr().err


def test_what_cannot_be_found_out_ends_with_2(running, tmp_path, capsys):
    assert run(["check-batching", "nobody", "--url", running.grpc_url]) == 2
    assert "nobody" in capsys.readouterr().err
    for url in ("127.0.0.1:9", "http://127.0.0.1:9", "ftp://127.0.0.1:9", "nowhere"):
        assert run(["check-batching", "plain", "--url", url]) == 2
    assert "HOST:PORT" in capsys.readouterr().err
    assert run(["check-batching", "plain", "--model-repository", str(tmp_path / "none")]) == 2
    assert "there is no model repository" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        run(["check-batching", "plain", "--url", "x:1", "--model-repository", "y"])
    assert ended.value.code == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["by_code", "by_constant", "by_parameter"])
def test_models_that_code_calls_are_loaded_with_it(calling, name: str, capsys):
    code, found = checked(calling, name, capsys)
    assert (code, found["kind"]) == (0, "independent")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["by_code_mixing", "by_caller", "over_code"])
def test_a_model_that_calls_one_that_mixes_is_told(calling, name: str, capsys):
    code, found = checked(calling, name, capsys)
    assert (code, found["kind"]) == (1, "depends")


@pytest.mark.slow
def test_where_names_cannot_be_read_the_error_says_so_and_an_option_names_them(calling, capsys):
    assert run(["check-batching", "by_sum", "--model-repository", str(calling)]) == 2
    told = capsys.readouterr().err
    assert "'NoneType' object has no attribute 'as_numpy'" in told, "what the server said"
    assert "by_sum calls models by names that its code makes" in told
    assert "--with NAME" in told
    code, found = checked(calling, "by_sum", capsys, "--with", "plain")
    assert (code, found["kind"]) == (0, "independent")
    assert run(["check-batching", "by_sum", "--model-repository", str(calling), "--with", "nobody"]) == 2
    assert "there is no model nobody to load" in capsys.readouterr().err
    assert run(["check-batching", "plain", "--url", "127.0.0.1:9", "--with", "mixing"]) == 2
    assert "load them on the server of --url" in capsys.readouterr().err


@pytest.mark.slow
def test_of_an_ensemble_its_members_share_executions(calling, capsys):
    code, found = checked(calling, "sound", capsys)
    assert (code, found["kind"], found["notes"]) == (0, "independent", [])
    assert found["most_items"] > 1
    code, found = checked(calling, "both", capsys)
    assert (code, [output["depends"] for output in found["outputs"]]) == (1, [False, True])
    code, found = checked(calling, "slow", capsys)
    assert (code, found["most_items"]) == (0, 1)
    assert found["notes"] == [
        "no two requests shared an execution of its members (unbatched), of which none has dynamic_batching"
    ]


def test_the_help_of_export_lists_every_command(capsys):
    for arguments in (["--help"], *([name, "--help"] for name in COMMANDS)):
        with pytest.raises(SystemExit) as ended:
            run(arguments)
        assert ended.value.code == 0
        told = capsys.readouterr().out
        named = "" if arguments[0] in ("--help", DEFAULT) else f" {arguments[0]}"
        assert told.startswith(f"usage: python -m export{named} [")
        assert arguments != ["--help"] or all(f"  {name} " in told for name in COMMANDS)


def test_a_model_of_a_repository_is_served_for_the_purpose(repository, capsys):
    assert run(["check-batching", "mixing", "--model-repository", str(repository)]) == 1
    told = capsys.readouterr().out
    assert "mixing on Triton 2.51.0: answers depend on the other items of a batch" in told
    assert run(["check-batching", "nobody", "--model-repository", str(repository)]) == 2
    assert "nobody" in capsys.readouterr().err
