"""Tuning: the policy goes into config.pbtxt and nothing else does, decisions need more than noise, and a real
server is tuned.

How much faster a policy is, is not asserted where it was really measured.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import helper

from export.contract import contract_of, parse_config
from export.errors import ConfigError
from perf.cli import main
from perf.harness.analyzer import Analyzer, AnalyzerError, find_analyzer
from perf.harness.errors import PerfError
from perf.harness.inputs import fetch_config
from perf.harness.load import Load
from perf.harness.serving import running
from perf.tuning import space
from perf.tuning.bench import bench
from perf.tuning.decision import Objective, Verdict, decide, lower_bound, operating_load
from perf.tuning.model_analyzer import settings
from perf.tuning.policy import Batching, Group, Policy, apply, policy_of
from perf.tuning.search import CURRENT, LoadError, Search
from perf.tuning.text import difference, edited_text, new_findings, policy_text, write_config
from perf.tuning.tuner import Options, Outcome, judge
from server import TritonServer
from tests.conftest import ROOT
from tests.graphs import FLOAT, graph, publish

HALVES = Policy((Group(1, "lower_cores"), Group(1, "upper_cores")), 1, Batching((2, 8, 32), 500))
ONE = Policy((Group(1),), 2, Batching())
WITHIN_60_MS = Objective("throughput", slo_p99_ms=60)

# Config texts as people write them, beside the committed ones
LAYOUTS = {
    "one line": 'name: "m" max_batch_size: 32 backend: "onnxruntime" dynamic_batching { }\n',
    "lists": """\
max_batch_size: 32
# mine
instance_group [ { count: 3 # three
  kind: KIND_CPU } ]
parameters [ { key: "a" value { string_value: "b" } },
             { key: "intra_op_thread_count" value { string_value: "4" } } ]""",
    "sizes one by one": """\
max_batch_size: 32
dynamic_batching {
  max_queue_delay_microseconds: 100  # short
  # two sizes
  preferred_batch_size: 4
  preferred_batch_size: 8
  default_queue_policy { max_queue_size: 3 }
}
""",
    **{
        name: (ROOT / "model_repository" / name / "config.pbtxt").read_text()
        for name in ("efficientnet_lite0", "text_stream", "read_text")
    },
}


def comments(text):
    return [part.strip() for line in text.splitlines() for part in line.split("#")[1:2]]


@pytest.mark.parametrize("policy", [HALVES, ONE, Policy((Group(4),), 1, Batching((4,), 0), spinning=False)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_policy_goes_into_the_text_and_all_else_stays(layout, policy):
    before = LAYOUTS[layout]
    after = edited_text(before, policy, layout, "by a test")
    old, new = parse_config(before, layout), parse_config(after, layout)
    assert policy_of(new) == policy
    assert contract_of(new) == contract_of(old)
    assert apply(policy_of(old), new) == old  # so nothing but the policy differs
    assert set(comments(before)) < set(comments(after))
    assert after.count("# Tuned: by a test\n") == 1
    assert edited_text(after, policy, layout, "again") == after


def test_the_next_note_takes_the_place_of_the_last():
    once = edited_text(LAYOUTS["efficientnet_lite0"], HALVES, "c", "first")
    twice = edited_text(once, ONE, "c", "second")
    assert "# Tuned: first" not in twice
    assert "# Tuned: second\ndynamic_batching {" in twice


def test_only_lines_of_the_policy_change():
    before = LAYOUTS["efficientnet_lite0"]
    changed = difference(before, edited_text(before, HALVES, "c"), "c").splitlines()[2:]
    assert [line for line in changed if line[0] in "+-"] == [
        "-  preferred_batch_size: [4, 8, 16, 32]",
        "+  preferred_batch_size: [2, 8, 32]",
        "+  max_queue_delay_microseconds: 500",
    ]


def test_instances_keep_what_else_their_group_says():
    config = parse_config(
        "instance_group { count: 2 kind: KIND_GPU gpus: 1 rate_limiter { priority: 3 } }", "c"
    )
    (group,) = apply(Policy((Group(4),)), config).instance_group
    assert (group.count, list(group.gpus), group.rate_limiter.priority) == (4, [1], 3)


def test_a_text_that_is_no_config_is_refused():
    with pytest.raises(ConfigError, match="c cannot be parsed: line 1"):
        edited_text("dynamic_batching { preferred: 4 }", HALVES, "c")


def test_a_policy_can_be_pasted():
    config = parse_config(LAYOUTS["text_stream"], "c")
    pasted = parse_config(policy_text(HALVES, config), "c")
    assert list(pasted.sequence_batching.oldest.preferred_batch_size) == [2, 8, 32]
    assert [group.host_policy for group in pasted.instance_group] == ["lower_cores", "upper_cores"]
    assert not pasted.sequence_batching.state


def rounds(*pairs):
    return [{"throughput": throughput, "p99_ms": p99} for throughput, p99 in pairs]


STEADY = {"8": rounds((100, 50), (104, 52), (96, 48), (101, 50), (99, 50))}


@pytest.mark.parametrize(
    ("candidate", "better", "reason"),
    [
        (rounds((150, 40), (160, 42), (149, 40), (151, 41), (152, 41)), True, r"1\.5.. x the throughput"),
        (rounds((60, 40), (61, 42), (59, 40), (62, 41), (60, 41)), False, "within the noise"),
        (rounds((112, 40), (95, 42), (120, 40), (110, 41), (130, 41)), False, "within the noise"),
        (rounds((103, 40), (107, 42), (99, 40), (104, 41), (102, 41)), False, r"less than 5% more"),
        (rounds((150, 61), (160, 59), (149, 62), (151, 63), (152, 58)), False, "does not hold the p99 limit"),
        (rounds((150, 40), (160, 42), (149, 40), (151, 41)), False, "within the noise"),
    ],
    ids=["better", "worse", "noise", "too little", "over the limit", "too few rounds"],
)
def test_a_candidate_is_better_beyond_margin_and_noise_within_the_limit(candidate, better, reason):
    current = {"8": STEADY["8"][: len(candidate)]}
    verdict = decide({"8": candidate}, current, WITHIN_60_MS, 0.05)
    assert verdict.better is better
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(verdict.reason)


def test_noise_between_rounds_does_not_hide_a_gain_within_them():
    slow_machine = (1.0, 0.6, 1.0, 0.5, 0.9)
    current = {"8": rounds(*((100 * slow, 30 / slow) for slow in slow_machine))}
    candidate = {"8": rounds(*((110 * slow, 30 / slow) for slow in slow_machine))}
    assert decide(candidate, current, WITHIN_60_MS, 0.05).better


def test_each_policy_is_judged_at_the_load_where_it_is_fastest_within_the_limit():
    levels = {
        "4": rounds((90, 30), (91, 30)),
        "8": rounds((100, 59), (99, 58)),
        "12": rounds((110, 61), (111, 70)),
    }
    assert operating_load(levels, WITHIN_60_MS) == "8"
    assert operating_load({"12": levels["12"]}, WITHIN_60_MS) is None


def test_a_current_policy_beyond_the_limit_is_compared_by_p99():
    slow = {"1": rounds(*[(300, 90)] * 5)}
    fine = {"4": rounds(*[(200, 50)] * 5)}
    verdict = decide(fine, slow, WITHIN_60_MS, 0.05)
    assert verdict.better
    assert "which the current policy does not" in verdict.reason
    assert not decide(slow, slow, WITHIN_60_MS, 0.05).better


def test_the_latency_objective_compares_p99_and_wants_the_rate_kept():
    objective = Objective("latency", rate=100)
    current = {"r": rounds(*[(100, 50)] * 5)}
    assert decide({"r": rounds(*[(100, 40)] * 5)}, current, objective, 0.05).median == pytest.approx(1.25)
    assert not decide({"r": rounds(*[(80, 40)] * 5)}, current, objective, 0.05).better


@pytest.mark.parametrize(("count", "place"), [(4, None), (5, 0), (7, 0), (8, 1), (11, 2)])
def test_the_bound_is_that_of_the_sign_test(count, place):
    ratios = [float(n) for n in range(count)]
    assert lower_bound(ratios[::-1]) == (ratios[place] if place is not None else -np.inf)


def test_disturbed_rounds_do_not_count_if_enough_are_left():
    current, candidate = ONE, HALVES

    def one(ours, theirs):
        return {
            current: {Load(8): {"throughput": ours, "p99_ms": 30}},
            candidate: {Load(8): {"throughput": theirs, "p99_ms": 30}},
        }

    outcome = Outcome(
        current, finalists=[candidate], rounds=[one(100, 120)] * 5 + [one(100, 10)], disturbed=[5]
    )
    judge(Options(WITHIN_60_MS, 1, None, 0.05, 64), outcome)
    assert outcome.winner == candidate
    outcome.disturbed = [4, 5]  # four are too few: all count
    judge(Options(WITHIN_60_MS, 1, None, 0.05, 64), outcome)
    assert outcome.winner is None


class MadeUpMachine:
    """Two cores: throughput grows with instances up to two, and with batching; latency by Little's law."""

    def __init__(self, refuses=(), fails=()):
        self.refuses, self.fails, self.measured = refuses, fails, []

    def load(self, policy):
        if policy in self.refuses:
            raise LoadError("no")
        self.policy = policy

    def measure(self, load, factor):
        self.measured.append((self.policy, load, factor))
        if self.policy in self.fails:
            raise AnalyzerError("no answer")
        instances = sum(group.count for group in self.policy.groups)
        rate = 100 * min(load.concurrency, instances, 2) * (1.2 if self.policy.batching else 1)
        rate *= load.concurrency / (load.concurrency + 0.5)
        return {"throughput": rate, "p99_ms": 1300 * load.concurrency / rate}

    def search(self, **more):
        return Search(WITHIN_60_MS, self.load, self.measure, **more)


SLOW = Policy((Group(1),), 1)


def test_the_search_climbs_to_the_limit_and_drops_what_is_far_behind():
    machine = MadeUpMachine()
    search = machine.search()
    search.stage(CURRENT, [SLOW])
    fast = Policy((Group(2),), 1, Batching((4, 8)))
    search.stage("placement", [fast, Policy((Group(1),), 2, Batching((4, 8)))])
    assert search.best() == [fast]
    slow, best, dropped = search.trials
    assert max(load.concurrency for load in slow.levels) == 4  # 59 ms
    assert max(load.concurrency for load in best.levels) == 8  # 46 ms
    assert (len(dropped.levels), dropped.dropped) == (1, "far behind")
    search.stage("again", [fast], 2.0)
    assert machine.measured[-1] == (fast, Load(8), 2.0)
    assert search.loads_for_finals([SLOW, fast])[fast] == [Load(4), Load(8)]


def test_a_policy_that_does_not_load_or_answer_is_told_and_left_out():
    bad, mute = Policy((Group(2),), 3), Policy((Group(2),), 4)
    search = MadeUpMachine(refuses=[bad], fails=[mute]).search()
    search.stage("placement", [bad, mute, SLOW])
    assert [search.told(trial)[:10] for trial in search.trials[:2]] == ["failed: no", "failed: no"]
    assert search.best() == [SLOW]


def test_where_no_policy_holds_the_limit_the_lowest_p99_is_best():
    machine = MadeUpMachine()
    search = Search(Objective("throughput", slo_p99_ms=1), machine.load, machine.measure)
    faster = Policy((Group(1),), 1, Batching((4, 8)))
    search.stage(CURRENT, [SLOW])
    search.stage("batch sizes", [faster])
    assert search.best() == [faster]


def test_what_the_time_does_not_suffice_for_is_skipped():
    search = MadeUpMachine().search(time_is_up=lambda: True)
    search.stage("placement", [SLOW])
    assert (search.trials, search.skipped) == ([], [SLOW])


def test_placements_fill_the_cores_and_name_the_servers_host_policies():
    found = space.placements(SLOW, 4, ("lower_cores", "upper_cores"), threads=True, gpu=False)
    assert {(sum(g.count for g in p.groups), p.threads) for p in found} == {(1, 4), (2, 2), (4, 1), (8, 1)}
    assert Policy((Group(2, "lower_cores"), Group(2, "upper_cores")), 1) in found
    assert {policy.threads for policy in space.placements(SLOW, 4, (), threads=False, gpu=True)} == {1}


def test_sizes_and_delays_stay_within_the_model_and_the_limit():
    base = Policy((Group(1),), 1, Batching((4, 8)))
    assert {p.batching.preferred for p in space.sizes(base, 8)} == {(), (2, 8), (2, 4, 8), (8,)}
    assert [p.batching.delay_us for p in space.delays(base, 10)] == [500, 2000]
    assert space.delays(base, 10, limited=True) == []  # the linter refuses them together
    waiting = Policy((Group(1),), 1, Batching((4, 8), 500))
    assert [p.batching.delay_us for p in space.delays(waiting, 10, limited=True)] == [0]
    assert space.sizes(SLOW, 0) == space.delays(SLOW, 60) == []


DOUBLE = graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    [("x", FLOAT, ["n", 16])],
    [("y", FLOAT, ["n", 16])],
    [("w", 2 * np.eye(16, dtype=np.float32))],
)
CONFIG = """\
name: "double"
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 16 }
output { name: "y" data_type: TYPE_FP32 dims: 16 }
# waits far too long for company
dynamic_batching { max_queue_delay_microseconds: 20000 preferred_batch_size: 8 }
instance_group { count: 1 kind: KIND_CPU }
"""
QUICK = ("--slo-p99-ms=200", "--seconds=0.1", "--budget-minutes=2", "--rounds=5", "--max-concurrency=4")


@pytest.fixture
def repository(tmp_path):
    publish(tmp_path / "repository", "double", DOUBLE, CONFIG)
    return tmp_path / "repository"


def tune(repository, *more):
    command = [sys.executable, "-m", "perf", "tune", "double", f"--model-repository={repository}", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_winner_is_written_on_a_real_server(repository, tmp_path, monkeypatch, capsys):
    """Which policy wins takes minutes to find out; here one is said to."""
    winner = Policy((Group(2),), None, Batching((), 0))

    def measured(served, options, arguments, outcome, clock):
        outcome.current, outcome.finalists, outcome.winner = policy_of(served.config), [winner], winner
        outcome.verdicts = {winner: Verdict(True, "1.5 times", [1.5] * 5, 1.5, 1.4, "8", "8")}

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
    assert done.returncode == 0, done.stderr
    after = (repository / "double" / "config.pbtxt").read_text()
    raw = json.loads(output.read_text())
    assert raw["kind"] == "tune"
    assert len(raw["rounds"]) >= 5
    assert {trial["stage"] for trial in raw["trials"]} >= {"current", "placement"}
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
        assert done.returncode == 0, done.stderr
        assert server.models()[0].ready
        assert delay_us(server) == 20_000
    assert "nothing was written" in done.stdout
    assert "dynamic_batching {" in done.stdout
    assert (repository / "double" / "config.pbtxt").read_text() == CONFIG


def test_what_the_linter_refuses_is_not_written(repository):
    too_large = edited_text(CONFIG, Policy((Group(1),), None, Batching((64,))), "c")
    assert [finding.code for finding in new_findings(repository, "double", too_large)] == ["TV302"]
    with pytest.raises(PerfError, match="TV302"):
        write_config(repository, "double", CONFIG, too_large)
    with pytest.raises(PerfError, match="was changed while it was tuned"):
        write_config(repository, "double", "something else", CONFIG)
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


def test_model_analyzer_gets_its_limit_and_writes_nowhere_else(tmp_path):
    analyzer = Analyzer(tmp_path / "perf_analyzer", {})
    folders = (tmp_path / name for name in ("models", "variants", "inputs.json", "reports"))
    models, variants, inputs, reports = folders
    made = settings(models, "double", variants, analyzer, WITHIN_60_MS, inputs, 32, reports)
    assert made["profile_models"]["double"]["constraints"] == {"perf_latency_p99": {"max": 60}}
    assert made["output_model_repository_path"] == str(variants)
    assert {made[key] for key in ("export_path", "checkpoint_directory")} == {
        str(reports),
        str(reports / "checkpoints"),
    }
