"""The chart's probes, ports, times and command are the launcher's."""

import re
import subprocess
import sys

import pytest
import yaml

from export.repository.signing import new_key
from server.running.run import GRACE_S
from tests import compose
from tests.conftest import ROOT
from tests.kubernetes.tools import (
    ALL,
    EXAMPLES,
    KUBERNETES,
    SLOT_S,
    container,
    example,
    only,
    pods,
    probes,
    rendered,
)
from tests.launcher import Launcher, get, write_model


@pytest.mark.slow
def test_probes_are_answered_by_the_launcher(tmp_path):
    """Each path of the chart, asked of a real one: served here, so every one says yes."""
    objects = rendered(example("gateway"), "readiness.model=echo")
    write_model(tmp_path / "models", "echo")
    with Launcher(tmp_path / "models", tmp_path / "log") as launcher:
        for kind, probe in probes(container(objects, "server")).items():
            status, text = get(f"{launcher.status}{probe['httpGet']['path']}")
            assert status == 200, (kind, text)
        assert get(f"{launcher.status}/ready?infer=another")[0] == 503


def test_the_three_probes_are_three_facts():
    server = container(rendered(example("gateway")), "server")
    paths = {kind: probe["httpGet"]["path"] for kind, probe in probes(server).items()}
    assert paths == {
        "startup": "/started",
        "readiness": "/ready?infer=recognize_objects",
        "liveness": "/live",
    }
    unasked = container(rendered(example("gateway"), "readiness.model="), "server")
    assert unasked["readinessProbe"]["httpGet"]["path"] == "/ready"


@ALL
def test_probes_name_ports_that_are_there(values):
    for _, spec, _ in pods(rendered(values)):
        (one,) = spec["containers"]
        names = {port["name"] for port in one["ports"]}
        for probe in probes(one).values():
            assert (probe.get("httpGet") or probe.get("tcpSocket"))["port"] in names


def test_ports_are_the_launchers():
    ports = {
        port["name"]: port["containerPort"] for port in container(rendered(EXAMPLES[0]), "server")["ports"]
    }
    services = compose.load(ROOT / "docker-compose.yml", {})["services"]
    published = {int(inside) for *_, inside in compose.published_ports(services["triton"])}
    assert set(ports.values()) == published
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002, "status": 8003}


@ALL
def test_the_launcher_takes_its_command(values, tmp_path):
    """As far as the repository, which is not there: every option is one of its own."""
    server = container(rendered(values), "server")
    new_key(tmp_path / "key.pem")
    key = f"--verify-key={tmp_path / 'key.pub.pem'}"
    command = [
        key if word.startswith("--verify-key") else word
        for word in server["command"]
        if not word.startswith("--address")
    ]
    command = [sys.executable if word == "python3" else word for word in command]
    assert command[1:3] == ["-m", "server"]
    command[3:3] = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]  # others may run here
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "no model repository at /models" in done.stderr


@ALL
@pytest.mark.parametrize("announce_s", [2, 10, 60])
def test_grace_periods_add_up(values, announce_s):
    """The kubelet counts from the pre-stop hook on, and kills at the end."""
    objects = rendered(values, f"drain.announceSeconds={announce_s}")
    spec = only(objects, "Deployment", "server")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= announce_s + GRACE_S + 5
    assert spec["terminationGracePeriodSeconds"] < SLOT_S
    hook = container(objects, "server")["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[-1] == f"kill -USR1 1 && sleep {announce_s}"  # first said, then waited
    for name, spec, _ in pods(objects):
        if name.endswith("gateway"):
            hook = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
            assert spec["terminationGracePeriodSeconds"] >= sum(map(int, re.findall(r"sleep (\d+)", hook)))


def test_the_kubelet_waits_longer_for_a_start_than_the_launcher():
    for seconds in (10, 900, 3600):
        server = container(rendered(example("gateway"), f"server.startTimeoutSeconds={seconds}"), "server")
        assert f"--start-timeout={seconds}" in server["command"]
        probe = server["startupProbe"]
        assert probe["failureThreshold"] * probe["periodSeconds"] >= seconds + 30
        assert "initialDelaySeconds" not in probe


def test_kserves_runtime_has_the_probes_and_times_of_the_chart():
    ours = container(
        rendered(example("gateway"), "readiness.model=", "server.startTimeoutSeconds=240"), "server"
    )
    (theirs,) = yaml.safe_load((KUBERNETES / "kserve/serving-runtime.yaml").read_text())["spec"]["containers"]
    by_name = {port["name"]: port["containerPort"] for port in ours["ports"]}
    for kind, probe in probes(ours).items():
        probe = {**probe, "httpGet": {**probe["httpGet"], "port": by_name[probe["httpGet"]["port"]]}}
        assert theirs[f"{kind}Probe"] == probe
    assert theirs["lifecycle"] == ours["lifecycle"]
    assert theirs["resources"] == ours["resources"]
    service = yaml.safe_load((KUBERNETES / "kserve/inference-service.yaml").read_text())
    spec = only(rendered(example("gateway")), "Deployment", "server")["spec"]["template"]["spec"]
    grace = service["spec"]["predictor"]["terminationGracePeriodSeconds"]
    assert grace == spec["terminationGracePeriodSeconds"]
