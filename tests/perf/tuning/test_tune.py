"""Tuning: the policy goes into config.pbtxt and nothing else does, decisions need more than noise, and a real
server is tuned.

How much faster a policy is, is not asserted where it was really measured.
"""

import json
import subprocess
import sys

import pytest

from export.repository.configs.contract import parse_config
from perf.cli import main
from perf.harness.generators.analyzer import find_analyzer
from perf.harness.inputs import fetch_config
from perf.harness.load import Load
from perf.harness.serving import running
from perf.tuning.bench import bench
from perf.tuning.decision import PolicyVerdict
from perf.tuning.policy import Batching, Group, Policy, policy_of
from perf.tuning.tuner import judge
from server import TritonServer
from tests.conftest import ROOT
from tests.graphs import publish
from tests.perf.tuning.double import CONFIG, DOUBLE

QUICK = ("--slo-p99-ms=200", "--seconds=0.1", "--budget-minutes=2", "--rounds=5", "--max-concurrency=4")

ENSEMBLE = """\
platform: "ensemble"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 16 }
output { name: "y" data_type: TYPE_FP32 dims: 16 }
ensemble_scheduling {
  step {
    model_name: "double"
    model_version: -1
    input_map { key: "x" value: "x" }
    output_map { key: "y" value: "y" }
  }
}
"""


@pytest.fixture
def repository(tmp_path):
    publish(tmp_path / "repository", "double", DOUBLE, CONFIG)
    return tmp_path / "repository"


def tune(repository, *more):
    command = [sys.executable, "-m", "perf", "tune", "double", f"--model-repository={repository}", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_winner_is_written_on_a_real_server(repository, tmp_path, monkeypatch, capsys):
    """Which policy wins takes minutes to find out; here one is said to."""
    winner = Policy((Group(2),), None, Batching((), 0))

    def measured(served, options, arguments, outcome, clock):
        outcome.current, outcome.finalists, outcome.winner = policy_of(served.config), [winner], winner
        outcome.verdicts = {winner: PolicyVerdict(True, "1.5 times", [1.5] * 5, 1.5, 1.4, "8", "8")}

    monkeypatch.setattr("perf.tuning.tune.measure", measured)
    output = tmp_path / "raw.json"
    command = ["tune", "double", f"--model-repository={repository}", "--slo-p99-ms=200", f"--output={output}"]
    assert main([*command, "--dry-run"]) == 0
    assert (repository / "double" / "config.pbtxt").read_text() == CONFIG
    assert main(command) == 0
    after = (repository / "double" / "config.pbtxt").read_text()
    raw = json.loads(output.read_text())
    assert raw["written"]
    assert after == raw["config_after"]
    assert "# waits far too long for company" in after
    assert "-dynamic_batching { max_queue_delay_microseconds: 20000" in capsys.readouterr().out
    assert policy_of(parse_config(after, "c")) == winner


def test_disturbed_rounds_name_no_winner(repository, tmp_path, monkeypatch, capsys):
    """What other programs take of the cores here is made up."""
    clear = Policy((Group(2),), None, Batching((), 0))

    def measured(served, options, arguments, outcome, clock):
        outcome.current, outcome.finalists = policy_of(served.config), [clear]
        rates = {outcome.current: 100.0, clear: 300.0}
        level = {policy: {Load(4): {"throughput": r, "p99_ms": 9.0}} for policy, r in rates.items()}
        outcome.rounds, outcome.disturbed = [level] * 5, [1]
        judge(options, outcome)

    monkeypatch.setattr("perf.tuning.tune.measure", measured)
    output = tmp_path / "raw.json"
    command = ["tune", "double", f"--model-repository={repository}", "--slo-p99-ms=200", f"--output={output}"]
    assert main(command) == 3
    told = capsys.readouterr()
    assert "no winner is named: other programs took the cores in 1 of 5 rounds" in told.err
    assert "the current policy stays" in told.out
    assert (repository / "double" / "config.pbtxt").read_text() == CONFIG
    raw = json.loads(output.read_text())
    assert (raw["winner"], raw["written"]) == (None, False)
    assert "tune again" in raw["undecided"]


def delay_us(server):
    """Of the model, as it is served."""
    return fetch_config("double", server.http_url).dynamic_batching.max_queue_delay_microseconds


def test_policies_are_tried_on_a_running_server_without_a_trace(repository, tmp_path):
    arguments = ["--model-control-mode=explicit", "--load-model=double"]
    with TritonServer(repository, arguments=arguments, log=tmp_path / "log") as server:
        served = running("double", server.http_url, server.grpc_url)
        with bench(served, find_analyzer(), seconds=0.1, cores=2) as at:
            at.load(Policy((Group(2),), None, Batching((), 7)))
            assert delay_us(server) == 7
            assert at.measure(Load(2))["throughput"] > 0
        assert delay_us(server) == 20_000
        assert server.models()[0].ready


@pytest.mark.long
def test_a_poor_policy_is_replaced_on_a_real_server(repository, tmp_path):
    output = tmp_path / "raw.json"
    done = tune(repository, *QUICK, f"--output={output}")
    after = (repository / "double" / "config.pbtxt").read_text()
    raw = json.loads(output.read_text())
    assert raw["kind"] == "tune"
    assert len(raw["rounds"]) >= 5
    assert {trial["stage"] for trial in raw["trials"]} >= {"current", "placement"}
    if raw["undecided"]:  # this machine has other work
        assert (done.returncode, after) == (3, CONFIG)
        return
    assert done.returncode == 0, done.stderr
    assert raw["written"], done.stdout  # 20 ms of waiting, against next to none
    assert after == raw["config_after"]
    assert "# waits far too long for company" in after
    assert "-dynamic_batching { max_queue_delay_microseconds: 20000" in done.stdout
    assert policy_of(parse_config(after, "c")).batching.delay_us < 20_000


@pytest.mark.long
def test_a_running_server_is_tuned_without_a_trace(repository, tmp_path):
    with TritonServer(
        repository, arguments=["--model-control-mode=explicit", "--load-model=double"], log=tmp_path / "log"
    ) as server:
        remote = [f"--url={server.http_url}", f"--grpc-url={server.grpc_url}", "--cores=2"]
        output = f"--output={tmp_path / 'raw.json'}"
        done = tune(repository, *QUICK, *remote, output)
        assert done.returncode == 0, done.stderr  # nobody can tell what disturbs a server elsewhere
        assert server.models()[0].ready
        assert delay_us(server) == 20_000
    assert "nothing was written" in done.stdout
    assert "dynamic_batching {" in done.stdout
    assert (repository / "double" / "config.pbtxt").read_text() == CONFIG


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "give --slo-p99-ms"),
        (("--slo-p99-ms=60", "--rounds=3"), 2, "takes 5 or more"),
        (("--objective=latency",), 2, "go together"),
        (("--slo-p99-ms=60", "--url=localhost:8000"), 2, "give --cores"),
        (("--slo-p99-ms=60", "--url=localhost:1", "--cores=2"), 1, "localhost:1"),
    ],
)
def test_what_cannot_be_tuned_is_said(repository, options, code, message):
    done = tune(repository, *options)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_ensemble_is_told_by_its_steps(repository, capsys):
    (repository / "both" / "1").mkdir(parents=True)
    (repository / "both" / "config.pbtxt").write_text(ENSEMBLE)
    assert main(["tune", "both", f"--model-repository={repository}", "--slo-p99-ms=60"]) == 1
    assert "both is an ensemble, without a policy; tune double" in capsys.readouterr().err
