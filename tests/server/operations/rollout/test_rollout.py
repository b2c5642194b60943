"""Rollouts on a real launcher with a gateway, under load over HTTP and gRPC: none of the requests fails."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from server.operations.gateway.keys import Grant
from tests.conftest import ROOT
from tests.gateways import TINY_CONFIG, Served, Tenants, kill_tritonserver, needs_haproxy, write_models
from tests.graphs import publish
from tests.processes import wait_until
from tests.rollouts import (
    Asking,
    command,
    failing,
    plus,
    publish_sleepy,
    roll_out,
    run,
    state_in,
    status,
)

pytestmark = needs_haproxy

OUTER = """
platform: "ensemble" max_batch_size: 64
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
ensemble_scheduling { step { model_name: "inner" model_version: -1
    input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }
"""
MODELS = ("right", "other", "unasked", "faulty", "broken", "killed", "again")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        publish(folder, name, plus(1), TINY_CONFIG)
    write_models(folder)
    return folder


def versions(served, model):
    return list(status(served)["models"][model])


@pytest.mark.slow
def test_what_is_as_good_is_promoted(served, repository):
    publish(repository, "right", plus(1), version=2)
    assert versions(served, "right") == ["1"]  # by itself a launcher loads nothing
    with Asking(served, "right") as asking:
        code, last = roll_out(served, "right")
    assert (code, last["stage"], last["reason"]) == (0, "promoted", "")
    assert last["new"]["requests"] >= 60
    assert last["old"]["requests"] >= 60
    assert asking.failed() == {}, served.told()
    told = status(served)
    assert told["models"]["right"] == {"2": ["s1", "s2"]}
    assert (told["held"], told["rollout"]) == ({}, None)
    assert list(told["servers"]) == ["s1", "s2"]


@pytest.mark.slow
def test_other_answers_are_rolled_back(served, repository):
    publish(repository, "other", plus(2), version=2)
    with Asking(served, "other") as asking:
        code, last = roll_out(served, "other")
    assert (code, last["stage"]) == (3, "rolled back")
    assert last["reason"].startswith("answers: 0 of ")
    assert last["difference"] == 1
    assert asking.failed() == {}  # no client got one of them
    assert versions(served, "other") == ["1"]
    assert status(served)["held"]["other"]["versions"] == [1]


@pytest.mark.slow
def test_what_nobody_asks_is_rolled_back(served, repository):
    publish(repository, "unasked", plus(1), version=2)
    code, last = roll_out(served, "unasked", "--timeout=2", "--seconds=1")
    assert (code, last["stage"]) == (3, "rolled back")
    told = "too few requests: in 2 s 0 were answered by the old version and 0 by the new one"
    assert last["reason"].startswith(told)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing", "--version=2"), "has no model nothing to load; there are again, broken, "),
        (("right", "--version=7"), "right has no version 7 in "),
        (("right", "--version=1"), "and 1 is not newer"),
        (("counter", "--version=2"), "counter keeps state between the requests of a sequence"),
        (("right", "--version=2", "--record=/dev/null/kept"), "/dev/null/kept cannot take what is recorded"),
        (
            ("right", "--version=2", "--through=nothing"),
            "has no model nothing to load, which --through names",
        ),
    ],
)
def test_what_cannot_be_rolled_out(served, repository, arguments, says):
    """Nothing is begun, so nothing is held."""
    for name in ("right", "counter"):
        (repository / name / "2").mkdir(exist_ok=True)
        shutil.copy(repository / name / "1" / "model.onnx", repository / name / "2")
    before = status(served)["held"]
    done = run(served, "rollout", *arguments)
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    assert status(served)["held"] == before


def test_a_plan_that_cannot_be_is_wrong_usage(served):
    done = run(served, "rollout", "right", "--version=0", "--requests=0")
    assert done.returncode == 2
    assert "versions are 1, 2, ...; --requests has to be 1 or more" in done.stderr


@pytest.mark.long
def test_a_policy_that_does_not_choose_it_is_told(served, repository):
    config = f"{TINY_CONFIG}\nversion_policy {{ specific {{ versions: 1 }} }}"
    publish(repository, "chosen", plus(1), config)
    assert run(served, "reload", "chosen").returncode == 0
    publish(repository, "chosen", plus(1), version=2)
    code, last = roll_out(served, "chosen")
    assert code == 3
    assert last["reason"] == "version 2 was not loaded: its version_policy chooses 1"
    assert versions(served, "chosen") == ["1"]


@pytest.mark.long
def test_a_model_is_tried_through_the_ensembles_that_call_it(served, repository):
    publish(repository, "inner", plus(1), TINY_CONFIG)
    (repository / "outer" / "1").mkdir(parents=True)
    (repository / "outer" / "config.pbtxt").write_text(OUTER)
    held = [*status(served)["held"]]
    done = run(served, "reload", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["held"] == held  # by name only
    publish(repository, "inner", plus(1.5), version=2)
    with Asking(served, "outer") as asking:
        code, last = roll_out(served, "inner", "--min-agreement=0", "--max-difference=0.4")
    assert (code, last["reason"]) == (3, "answers: one differs by 0.5, and 0.4 is allowed")
    assert asking.failed() == {}
    publish(repository, "inner", plus(1), version=3)
    with Asking(served, "outer") as asking:
        assert roll_out(served, "inner", version=3)[0] == 0
    assert asking.failed() == {}, served.told()
    assert versions(served, "inner") == ["3"]


@pytest.mark.slow
def test_errors_are_rolled_back_before_a_client_sees_one(served, repository):
    publish(repository, "faulty", failing(), version=2)
    with Asking(served, "faulty") as asking:
        code, last = roll_out(served, "faulty")
    assert (code, last["stage"]) == (3, "rolled back")
    assert last["reason"].startswith("errors: ")
    assert "indices element out of data bounds" in last["reason"]
    assert asking.failed() == {}, served.told()


@pytest.mark.long
def test_what_is_slow_is_rolled_back(served, repository):
    publish_sleepy(repository, "sleepy", 1, 0.0)
    assert run(served, "reload", "sleepy").returncode == 0
    publish_sleepy(repository, "sleepy", 2, 0.3)
    with Asking(served, "sleepy") as asking:
        code, last = roll_out(served, "sleepy", "--max-slowdown=1.5", "--requests=20")
    assert (code, last["stage"]) == (3, "rolled back")
    assert last["reason"].startswith("latency: p50 ")
    assert asking.failed() == {}, served.told()
    assert versions(served, "sleepy") == ["1"]


@pytest.mark.long
def test_processes_of_python_models_are_replaced_without_an_alarm(served, repository):
    publish_sleepy(repository, "python", 1, 0.0)
    assert run(served, "reload", "python").returncode == 0
    publish_sleepy(repository, "python", 2, 0.0)
    with Asking(served, "python") as asking:
        assert roll_out(served, "python")[0] == 0
    assert asking.failed() == {}, served.told()
    assert served.ready()
    assert "died" not in served.told()


@pytest.mark.long
def test_what_does_not_load_is_rolled_back(served, repository):
    publish(repository, "broken", b"no graph", version=2)
    with Asking(served, "broken") as asking:
        code, last = roll_out(served, "broken")
    assert (code, last["stage"]) == (3, "rolled back")
    assert last["reason"].startswith("version 2 was not loaded: ")
    assert asking.failed() == {}, served.told()


@pytest.mark.long
def test_a_version_that_ends_its_server_is_rolled_back(served, repository):
    publish(repository, "killed", plus(1), version=2)
    with Asking(served, "killed") as asking:
        rollout = subprocess.Popen(
            [
                *command(served, "rollout", "killed", "--version=2", "--json"),
                "--seconds=5",
                "--requests=20",
                "--canary=50%",
                "--max-slowdown=1000",
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        with rollout.stdout as lines:
            told = (json.loads(line) for line in iter(lines.readline, ""))
            assert any(line["stage"] == "shadow" for line in told)
            (candidate,) = (s for s in status(served)["servers"].values() if s["state"] == "candidate")
            assert any(line["stage"] == "canary" and line["new"]["requests"] for line in told)
            kill_tritonserver(candidate["pid"])
            *_, last = told
        assert rollout.wait() == 3
    assert last["reason"] == "the new version's tritonserver ended with status 137"
    assert asking.failed() == {}  # others answered what it had begun


@pytest.mark.long
def test_who_names_a_version_gets_it(served, repository):
    """Version 2 answers otherwise, so its answers are told from those of 1."""
    publish(repository, "named", plus(1), TINY_CONFIG)
    assert run(served, "reload", "named").returncode == 0
    publish(repository, "named", plus(2), version=2)
    rollout = subprocess.Popen(
        [*command(served, "rollout", "named", "--version=2", "--seconds=600", "--canary=100%", "--json")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with rollout.stdout as lines:
        assert any(json.loads(line)["stage"] == "shadow" for line in iter(lines.readline, ""))
        for kind in ("grpc", "http"):
            assert served.infer(1, kind=kind, model="named", model_version="2") == 3
            assert served.infer(1, kind=kind, model="named", model_version="1") == 2
            assert served.infer(1, kind=kind, model="named") == 2
        rollout.send_signal(signal.SIGINT)
        rest = lines.read()
    assert rollout.wait() == 3
    assert "rolled back" in rest


@pytest.mark.long
def test_a_server_that_is_started_again_keeps_the_old_version(served, repository):
    """Also once it was rolled back, although the new one is in the repository."""
    publish(repository, "again", plus(2), version=2)
    with Asking(served, "again") as asking:
        assert roll_out(served, "again")[0] == 3
        (pid,) = (server["pid"] for name, server in status(served)["servers"].items() if name == "s1")
        kill_tritonserver(pid)
        wait_until(lambda: "serves again" in served.told())
    assert asking.failed() == {}, served.told()
    assert versions(served, "again") == ["1"]
    told = run(served, "reload", "again")  # the operator's word
    assert told.returncode == 0, told.stderr
    assert versions(served, "again") == ["2"]
    assert "again" not in status(served)["held"]


@pytest.mark.slow
def test_what_a_launcher_that_was_killed_left_is_the_old_version(tmp_path):
    """In the middle of a rollout; the gateway was killed before, which did not end it."""
    repository = tmp_path / "models"
    publish(repository, "tiny", plus(1), TINY_CONFIG)
    tenants = Tenants(tmp_path / "keys", Grant("alice", rate=100_000, concurrency=100))
    with state_in(tmp_path / "state"):
        with Served(repository, tmp_path / "log", tenants, servers=1) as served:
            publish(repository, "tiny", plus(1), version=2)
            rollout = subprocess.Popen(
                [
                    *command(served, "rollout", "tiny", "--version=2", "--json"),
                    "--seconds=600",
                    "--canary=100%",
                ],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            with rollout.stdout as lines, rollout.stderr as errors:
                told = (json.loads(line) for line in iter(lines.readline, ""))
                assert any(line["stage"] == "shadow" for line in told)
                os.kill(status(served)["gateway"]["pid"], signal.SIGKILL)
                wait_until(lambda: "HAProxy is started again" in served.told())
                with Asking(served, "tiny", threads=2) as asking:
                    assert any(line["new"]["requests"] for line in told)  # copies are taken again
                    assert served.infer(1, model="tiny", model_version="2") == 2
                assert asking.failed() == {}
                os.kill(served.process.pid, signal.SIGKILL)
                served.process.wait()
                list(told)
                assert "the launcher ended" in errors.read()
            assert rollout.wait() == 1
        with Served(repository, tmp_path / "log", tenants, servers=1) as served:
            assert "held    tiny at version 1, not 2: a rollout has begun" in served.text
            assert versions(served, "tiny") == ["1"]
            with Asking(served, "tiny") as asking:
                assert (
                    roll_out(served, "tiny")[0] == 0
                )  # with one server, which was started with another policy
            assert asking.failed() == {}, served.told()
            assert (versions(served, "tiny"), status(served)["held"]) == (["2"], {})


@pytest.mark.long
def test_requests_are_kept_where_that_was_asked_for(served, repository, tmp_path):
    publish(repository, "other", plus(1), TINY_CONFIG)
    publish(repository, "other", plus(1), version=3)
    with Asking(served, "other", threads=2):
        code, last = roll_out(served, "other", f"--record={tmp_path / 'kept'}", "--shadow", version=3)
    assert code == 0, last
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) >= 4 * 60
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    told = json.loads(next(path for path in kept if path.suffix == ".json").read_text())
    assert (told["agree"], told["difference"], told["old"]["error"]) == (True, 0.0, "")
