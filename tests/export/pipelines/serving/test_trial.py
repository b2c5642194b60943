"""Before a version is published the real tritonserver loads it and answers: what that finds, and says."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from export.cli.commands import run
from export.common.errors import ServingError
from export.pipelines.serving import trial as trials
from export.pipelines.serving.comparison import Case
from export.pipelines.serving.trial import TrialServer
from export.sources.specs.spec import State
from server import InstallationError
from tests.conftest import ROOT
from tests.graphs import FLOAT, graph

WEIGHTS = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
CONFIG = """\
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [8] }
output { name: "y" data_type: TYPE_FP32 dims: [4] }
"""
BATCHED = CONFIG + "dynamic_batching { }\n"


def linear(after: list | None = None, output: str = "y") -> bytes:
    """x @ WEIGHTS, and then these nodes."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y" if not after else "a"]), *(after or [])]
    return graph(nodes, [("x", FLOAT, ["n", 8])], [(output, FLOAT, ["n", 4])], [("w", WEIGHTS)])


def mixing() -> bytes:
    """An answer divided by the largest of the batch."""
    after = [
        helper.make_node("ReduceMax", ["a"], ["m"], keepdims=0),
        helper.make_node("Div", ["a", "m"], ["y"]),
    ]
    return linear(after)


def case(**changes) -> Case:
    random = np.random.default_rng(1)
    values = {
        "inputs": ("x",),
        "outputs": ("y",),
        "samples": [(random.normal(size=8).astype(np.float32),) for _ in range(6)],
        "tolerance": 1e-5,
    }
    return Case(**{**values, **changes})


@pytest.fixture(scope="module")
def trial():
    with TrialServer() as running:
        yield running


def test_what_is_served_is_told(trial: TrialServer, tmp_path: Path):
    served = trial.check(tmp_path / "linear", {"config.pbtxt": BATCHED}, linear(), case())
    assert served.shared
    assert served.most_items == 8
    assert served.largest_difference < 1e-5
    assert f"served by Triton {served.server}: {served.requests} answers" in str(served)
    assert not (tmp_path / "linear").exists()


def test_answers_that_depend_on_the_batch_are_refused(trial: TrialServer, tmp_path: Path):
    with pytest.raises(ServingError, match=r"output y differs from the one in process by .* in a request of"):
        trial.check(tmp_path / "mixing", {"config.pbtxt": BATCHED}, mixing(), case())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CONFIG.replace('"x"', '"z"'), "z"),
        (
            CONFIG + "dynamic_batching { preferred_batch_size: [16] }",
            "preferred size must be <= max batch size",
        ),
        (CONFIG.replace("dims: [8]", "dims: [9]"), "9"),
        (CONFIG + 'parameters { key: "intra_op_thread_count" value { string_value: "many" } }', "many"),
        (CONFIG.replace("dims: [4]", 'dims: [4] label_filename: "missing.txt"'), "missing.txt"),
    ],
)
def test_a_model_that_does_not_load_is_refused_in_the_words_of_the_server(
    trial: TrialServer, tmp_path: Path, config: str, reason: str
):
    with pytest.raises(ServingError, match=r"tritonserver [\d.]+ does not load it") as raised:
        trial.check(tmp_path / "refused", {"config.pbtxt": config}, linear(), case())
    assert reason in str(raised.value)
    assert "--no-serve-check" in str(raised.value)
    served = trial.check(tmp_path / "refused", {"config.pbtxt": BATCHED}, linear(), case())
    assert served.requests, "the next candidate is tried as ever"


def test_a_policy_that_no_longer_fits_says_where_it_is(trial: TrialServer, tmp_path: Path):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "config.pbtxt").write_text(BATCHED)
    changed = BATCHED.replace("{ }", "{ preferred_batch_size: [16] }")
    with pytest.raises(ServingError, match=f"the policy of {folder}/config.pbtxt was kept"):
        trial.check(folder, {"config.pbtxt": changed}, linear(), case())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "note"),
    [
        (
            'instance_group { count: 1 host_policy: "lower_cores" } '
            'instance_group { count: 1 host_policy: "upper_cores" } dynamic_batching { }',
            "",
        ),
        ("dynamic_batching { default_queue_policy { max_queue_size: 1 } }", ""),
        ("dynamic_batching { max_queue_delay_microseconds: 20000 }", ""),
        ("instance_group { kind: KIND_GPU } dynamic_batching { }", "KIND_GPU were tried on the CPU"),
        ("version_policy { specific { versions: [7] } } dynamic_batching { }", "version_policy"),
        ("response_cache { enable: true } dynamic_batching { }", ""),
        ("instance_group { count: 1 }", "no requests shared an execution, as its config.pbtxt has no dyn"),
    ],
)
def test_policies_of_people_are_served_as_they_are(
    trial: TrialServer, tmp_path: Path, policy: str, note: str
):
    served = trial.check(tmp_path / "policy", {"config.pbtxt": CONFIG + policy}, linear(), case())
    assert served.requests
    assert note in "; ".join(served.notes)


def test_what_was_put_aside_is_not_taken_for_the_version(trial: TrialServer, tmp_path: Path):
    """The linear graph is served, and held against itself, not against another one of a folder beside it."""
    for name in ("1.old", "01", "2024-11-28"):
        aside = tmp_path / "aside" / name
        aside.mkdir(parents=True)
        (aside / "model.onnx").write_bytes(linear([helper.make_node("Neg", ["a"], ["y"])]))
    assert trial.check(tmp_path / "aside", {"config.pbtxt": BATCHED}, linear(), case()).requests


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        ("dynamic_batching { }", True),
        ("sequence_batching { oldest { max_candidate_sequences: 4 } }", True),
        ("dynamic_batching { max_queue_delay_microseconds: 200000 }", False),
        ("dynamic_batching { default_queue_policy { default_timeout_microseconds: 10 } }", False),
        ("dynamic_batching { default_queue_policy { default_timeout_microseconds: 5000000 } }", True),
        ("dynamic_batching { default_queue_policy { max_queue_size: 256 } }", True),
        ("dynamic_batching { priority_levels: 1 priority_queue_policy { key: 1 value { } } }", True),
        (
            "dynamic_batching { priority_levels: 1 "
            "priority_queue_policy { key: 1 value { default_timeout_microseconds: 10 } } }",
            False,
        ),
        ("sequence_batching { direct { } }", False),
        ("", False),
    ],
)
def test_requests_wait_for_each_other_in_a_trial(tmp_path: Path, policy: str, waits: bool):
    path = tmp_path / "config.pbtxt"
    path.write_text(CONFIG + policy)
    trials._for_the_trial(path)
    assert ("max_queue_delay_microseconds: 50000" in path.read_text()) == waits
    if not waits:
        assert path.read_text() == CONFIG + policy


def test_what_is_served_without_a_gpu_is_tried_too(trial: TrialServer, tmp_path: Path):
    folder = tmp_path / "both"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "cpu.pbtxt").write_text(BATCHED)
    served = trial.check(folder, {"config.pbtxt": CONFIG}, linear(), case())
    assert "with configs/cpu.pbtxt and without" in served.notes
    (folder / "configs" / "cpu.pbtxt").write_text(BATCHED.replace("dims: [4]", "dims: [5]"))
    with pytest.raises(ServingError, match="does not load it"):
        trial.check(folder, {"config.pbtxt": CONFIG}, linear(), case())


def test_other_files_of_the_model_go_with_it(trial: TrialServer, tmp_path: Path):
    """Labels under another name, data of a warm-up: what a config.pbtxt may refer to."""
    folder = tmp_path / "files"
    (folder / "warmup").mkdir(parents=True)
    (folder / "warmup" / "x").write_bytes(np.ones(8, np.float32).tobytes())
    (folder / "names.txt").write_text("a\nb\nc\nd\n")
    config = BATCHED.replace("dims: [4]", 'dims: [4] label_filename: "names.txt"') + (
        'model_warmup { name: "x" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [8] '
        'input_data_file: "x" } } }'
    )
    names = case(labels={"y": ["a", "b", "c", "d"]})
    assert trial.check(folder, {"config.pbtxt": config}, linear(), names).requests
    with pytest.raises(ServingError, match="names class"):
        trial.check(folder, {"config.pbtxt": config}, linear(), case(labels={"y": ["d", "c", "b", "a"]}))


SEQUENCES = """\
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [8] }
output { name: "y" data_type: TYPE_FP32 dims: [8] }
sequence_batching {
  max_sequence_idle_microseconds: 5000000
  oldest { max_candidate_sequences: 4 }
  state { input_name: "s" output_name: "t" data_type: TYPE_FP32 dims: [8]
    initial_state { name: "zeros" data_type: TYPE_FP32 dims: [8] zero_data: true } }
}
"""


def sums(of_the_batch: bool = False) -> bytes:
    """What came in a sequence, added up; or of all sequences of a batch, which is wrong."""
    nodes = [helper.make_node("Add", ["x", "s"], ["t"]), helper.make_node("Identity", ["t"], ["y"])]
    if of_the_batch:
        nodes[1] = helper.make_node("ReduceSum", ["t", "axes"], ["r"], keepdims=1)
        nodes.append(helper.make_node("Sub", ["t", "r"], ["y"]))
    rows = ["n", 8]
    return graph(
        nodes,
        [("x", FLOAT, rows), ("s", FLOAT, rows)],
        [("y", FLOAT, rows), ("t", FLOAT, rows)],
        [("axes", np.array([0]))] if of_the_batch else [],
    )


@pytest.mark.slow
def test_sequences_run_interleaved(trial: TrialServer, tmp_path: Path):
    states = (State("s", "t", "float32", (8,)),)
    texts = {"config.pbtxt": SEQUENCES}
    served = trial.check(tmp_path / "sums", texts, sums(), case(states=states))
    assert served.sequences >= 4
    assert served.shared
    with pytest.raises(ServingError, match=r"as request \d of \d of a sequence"):
        trial.check(tmp_path / "sums", texts, sums(of_the_batch=True), case(states=states))


def test_a_server_that_died_is_started_again(tmp_path: Path):
    with TrialServer() as trial:
        texts = {"config.pbtxt": BATCHED}
        trial.check(tmp_path / "linear", texts, linear(), case())
        os.kill(trial._server.pid, signal.SIGKILL)
        trial._server.wait()
        with pytest.raises(ServingError):
            trial.check(tmp_path / "linear", texts, linear(), case())
        assert trial.check(tmp_path / "linear", texts, linear(), case()).requests


def test_without_a_tritonserver_that_is_said_and_nothing_refused(tmp_path: Path, monkeypatch):
    def nothing() -> None:
        raise InstallationError("there is no tritonserver")

    monkeypatch.setattr("server.running.process.find_installation", nothing)
    with TrialServer() as trial:
        for _ in range(2):
            served = trial.check(tmp_path / "linear", {"config.pbtxt": BATCHED}, linear(), case())
            assert str(served) == "not served before publishing: there is no tritonserver"


def test_nothing_is_left_behind(tmp_path: Path):
    with TrialServer() as trial:
        trial.check(tmp_path / "linear", {"config.pbtxt": BATCHED}, linear(), case())
        folder = trial._folder
        assert folder.is_dir()
    assert not folder.exists()
    assert trials.TrialServer()._folder is None


@pytest.mark.slow
def test_an_export_says_what_was_served_and_can_do_without(tmp_path: Path, capsys):
    spec = f"{ROOT / 'examples' / 'my_net.py'}:spec"
    command = [spec, "--random-weights", "--model-repository", str(tmp_path)]
    assert run(command) == 0
    assert "served by Triton" in capsys.readouterr().out
    assert run([*command, "--no-serve-check"]) == 0
    assert "served by" not in capsys.readouterr().out
    config = tmp_path / "my_net" / "config.pbtxt"
    config.write_text(
        config.read_text() + 'parameters { key: "execution_mode" value { string_value: "9" } }\n'
    )
    assert run(command) == 1
    told = capsys.readouterr().err
    assert "my_net was not published: tritonserver" in told
    assert "execution_mode" in told


def test_an_export_that_is_ended_takes_its_server_along(tmp_path: Path):
    """SIGTERM, while the server that tries the model is running."""
    script = (
        "import signal, sys, time; from pathlib import Path\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "from export.pipelines.serving.trial import TrialServer\n"
        "from tests.export.pipelines.serving.test_trial import BATCHED, case, linear\n"
        "with TrialServer() as trial:\n"
        f"    trial.check(Path({str(tmp_path)!r}) / 'm', {{'config.pbtxt': BATCHED}}, linear(), case())\n"
        "    print(trial._folder, trial._server.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        folder, pid = process.stdout.readline().split()
        assert Path(folder).is_dir()
        process.terminate()
        process.wait(timeout=120)
    assert not Path(folder).exists()
    assert not Path("/proc", pid).exists()
