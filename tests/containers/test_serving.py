"""The unchanged docker-compose.yml in containers: what is served, with which rights, and what happens to it.

In order, on one stack: the last test stops it.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc

from client import AccessDenied, VisionClient
from export.sources.photographs import photographs
from tests.conftest import ROOT
from tests.containers.conftest import needs_image
from tests.containers.load import ask_over_grpc, ask_over_http
from tests.containers.stack import wait_until
from tests.launcher import get
from tests.serving.hostile_images import OTHER_FILES
from tests.text_lines import encoded, rendered

CNN = "efficientnet_lite0"
BURST = 64
USER = f"{os.getuid()}:{os.getgid()}"
RIGHTS = """
cat /proc/self/status
touch /opt/triton-vision/x /models/x 2>&1
df --block-size=1 --output=size /tmp /dev/shm | tail -n 2
"""
KILL_TRITONSERVER = """
import os, pathlib
for name in pathlib.Path("/proc").glob("[0-9]*/comm"):
    if name.read_text().strip() == "tritonserver":
        os.kill(int(name.parent.name), 9)
"""


@pytest.fixture
def vision(stack):
    with VisionClient(stack.url("GRPC_PORT"), concurrency=16) as client:
        yield client


def test_the_full_repository_is_served(stack):
    models = {folder.parent.name for folder in (ROOT / "model_repository").glob("*/[0-9]*")}
    for model in models:
        assert get(f"http://{stack.url('HTTP_PORT')}/v2/models/{model}/ready")[0] == 200, model
    assert stack.state()["State"]["Health"]["Status"] == "healthy"
    assert "set_mempolicy is refused" not in stack.logs()


def test_it_has_no_more_rights_than_the_file_gives(stack):
    told = stack.run("sh", "-c", RIGHTS).splitlines()
    status = dict(line.split(":\t", 1) for line in told if ":\t" in line)
    assert status["Uid"].split() == ["1000"] * 4
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert int(status["CapBnd"], 16) == 1 << 23 | 1 << 19  # SYS_NICE, SYS_PTRACE
    assert status["NoNewPrivs"] == "1"
    assert len([line for line in told if "Read-only file system" in line]) == 2
    assert [line.strip() for line in told[-2:]] == [str(2**30)] * 2  # /tmp, /dev/shm
    assert stack.state()["HostConfig"]["PidsLimit"] == 8192


def test_the_doctor_inside_finds_no_fault_with_our_own_settings(stack):
    checks = {
        check["name"]: check
        for check in json.loads(stack.run("python3", "-m", "server", "doctor", "--json"))["checks"]
    }
    assert f"model {CNN}" in checks
    for name in ("GPU", "shared memory", "ports", "host policies", "container runtime"):
        assert checks[name]["level"] == "green", checks[name]


def test_photographs_are_recognised_and_a_line_is_read(stack, vision):
    for photo in photographs()[:5]:
        told = vision.classify(photo.path)
        assert photo.class_index in [found.index for found in told.classes]
    assert vision.read_text(encoded(rendered("Keep walking, Victor!"))).text == "Keep walking, Victor!"


def test_the_command_line_recognises(stack):
    command = [
        sys.executable,
        "-m",
        "client",
        "classify",
        "--url",
        stack.url("GRPC_PORT"),
        str(photographs()[0].path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_shared_memory_is_refused_in_words_that_help(stack):
    with (
        VisionClient(stack.url("GRPC_PORT"), shared_memory=True) as client,
        pytest.raises(AccessDenied, match="takes no shared memory from this client"),
    ):
        client.classify(photographs()[0].path)


def test_a_burst_is_batched(stack):
    image = grpc.InferInput("image", [1, 224, 224, 3], "UINT8")
    image.set_data_from_numpy(np.zeros((1, 224, 224, 3), np.uint8))
    inferences, executions = stack.statistics(CNN)
    with grpc.InferenceServerClient(stack.url("GRPC_PORT")) as client:
        answers = [client.async_infer(CNN, [image], lambda *_: None) for _ in range(BURST)]
        del answers
        wait_until(lambda: stack.statistics(CNN)[0] == inferences + BURST)
    assert stack.statistics(CNN)[1] - executions <= BURST // 4


def test_hostile_files_end_nothing(stack, vision):
    list(vision.classify_iter(OTHER_FILES, on_error="return"))
    assert vision.classify(photographs()[0].path).classes
    assert stack.count("triton_vision_tritonserver_restarts_total") == 0
    assert stack.count("triton_vision_model_process_deaths_total") == 0


def test_prometheus_has_our_rules_and_a_panel_has_data(stack, vision):
    needs_image("prometheus")
    stack.up("prometheus")
    url = f"http://{stack.url('PROMETHEUS_PORT')}/api/v1"

    def ask(path):
        return json.loads(get(f"{url}/{path}")[1])["data"]

    wait_until(lambda: [target["health"] for target in ask("targets")["activeTargets"]] == ["up", "up"])
    rules = ask("rules")["groups"]
    assert {rule["name"] for group in rules for rule in group["rules"]} >= {"TritonDown"}
    assert not [rule["lastError"] for group in rules for rule in group["rules"] if rule.get("lastError")]
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/triton.json").read_text())
    (panel,) = (panel for panel in dashboard["panels"] if panel["title"] == "Requests answered")
    query = panel["targets"][0]["expr"].replace("$__rate_interval", "1m").replace("$model", ".*")

    def has_data():
        vision.classify(photographs()[0].path)
        found = ask(f"query?{urllib.parse.urlencode({'query': query})}")["result"]
        return any(float(series["value"][1]) > 0 for series in found)

    wait_until(has_data)


def test_grafana_shows_the_dashboard(stack):
    needs_image("grafana")
    stack.up("grafana")
    status, told = get(f"http://{stack.url('GRAFANA_PORT')}/api/search?type=dash-db")
    assert status == 200
    assert json.loads(told)


def test_the_page_is_served(stack):
    needs_image("web")
    stack.compose("--profile", "web", "up", "--build", "--wait", "web")
    assert get(f"http://{stack.url('WEB_PORT')}/")[0] == 200


def test_the_sweep_measures(stack):
    needs_image("perf")
    short = [
        "--measurement-mode=count_windows",
        "--measurement-request-count=5",
        "--stability-percentage=100000000",
    ]
    before = set((ROOT / "perf/out").glob("sweep-*"))
    few = ["--env", "MODELS=mobilenet_v2", "--env", "CONCURRENCIES=1 2"]
    told = stack.compose("run", "--rm", "--no-TTY", "--user", USER, *few, "perf", "bash", "/sweep.sh", *short)
    assert "p95" in told.stdout
    for folder in set((ROOT / "perf/out").glob("sweep-*")) - before:
        shutil.rmtree(folder)


def test_a_killed_tritonserver_comes_back(stack):
    stack.run("python3", "-c", KILL_TRITONSERVER)
    wait_until(lambda: stack.count("triton_vision_tritonserver_restarts_total") == 1 and stack.ready())


def test_a_killed_launcher_comes_back(stack):
    """Docker starts the container again."""
    stack.run(
        "sh", "-c", "kill -9 $(cut -d ' ' -f 1 /proc/1/task/1/children)", check=False
    )  # and our own end
    wait_until(lambda: stack.state()["RestartCount"] == 1)
    wait_until(lambda: stack.state()["State"]["Health"]["Status"] == "healthy")


def test_a_stop_under_load_loses_nothing(stack):
    clients = 4
    http = [threading.Event() for _ in range(clients)]
    rpc = [threading.Event() for _ in range(clients)]
    with ThreadPoolExecutor(2 * clients) as pool:
        over_http = [
            pool.submit(ask_over_http, stack.url("HTTP_PORT"), event, keep=event is not http[0])
            for event in http
        ]
        over_grpc = [pool.submit(ask_over_grpc, stack.url("GRPC_PORT"), event) for event in rpc]
        for event in (*http, *rpc):
            event.wait()
        stack.compose("stop", "triton-cpu")
        for client in over_http:
            statuses, failure = client.result()
            assert (set(statuses), failure) == ({200, 503}, "")
        for client in over_grpc:
            # of what came after the last answer and before the connection's end, tritonserver refuses some so
            assert set(client.result()) - {"NOT_FOUND", "CANCELLED"} == {"OK", "UNAVAILABLE"}
    assert stack.state()["State"]["ExitCode"] == 0
    assert "ended with status" not in stack.logs()
