"""Alerts fire into a webhook, and resolve: real tritonserver, launcher, Prometheus and Alertmanager.

The rules, their scrape jobs and the routes are those of deploy/; windows are seconds instead of minutes, and
addresses those of this test.
"""

import contextlib
import json
import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tritonclient.grpc as grpc
import yaml
from tritonclient.utils import InferenceServerException

from tests.conftest import ROOT
from tests.deploy.rules import FILES, FOLDER, hurried
from tests.held import Gate
from tests.launcher import Launcher, get, write_model
from tests.ports import free_ports
from tests.processes import wait_until

pytestmark = pytest.mark.slow

SECONDS = {"5m": 4, "10m": 4, "30m": 6, "1h": 8, "6h": 10, "3d": 12, "30d": 12}
MOST = 16  # requests at a time, more than there is room for
OVERLOAD = ("QueueIsNearlyFull", "ErrorBudgetBurnsFast")
NEEDED = {"prometheus": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager"}
# One instance that can be held, and a queue of four, in which nobody waits for longer than half a second.
CONFIG = """
backend: "python"
max_batch_size: 1
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { kind: KIND_CPU count: 1 }
dynamic_batching { default_queue_policy {
    max_queue_size: 4 timeout_action: REJECT default_timeout_microseconds: 500000
} }
"""
HELD = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        pass_gate()
        tensors = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]) for x in tensors]
"""


class Webhook(ThreadingHTTPServer):
    """Takes what Alertmanager sends. told: (receiver, alert, status), in order."""

    def __init__(self):
        self.told = []
        super().__init__(("127.0.0.1", 0), Told)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Told(BaseHTTPRequestHandler):
    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told += [
            (self.path.strip("/"), alert["labels"]["alertname"], alert["status"]) for alert in said["alerts"]
        ]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def program(name, *arguments, log):
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here: apt-get install {NEEDED[name]}")
    with open(log, "w") as out:
        process = subprocess.Popen([name, *arguments], stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def alertmanager_config(file, webhook):
    """That of deploy/, with receivers, and nothing that waits."""
    config = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    for route in (config["route"], *config["route"]["routes"]):
        route.update(group_wait="1s", group_interval="1s")
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{webhook.url}/{receiver['name']}"}]
    file.write_text(yaml.safe_dump(config))
    return file


def prometheus_config(folder, launcher, metrics, alertmanager):
    """That of deploy/, with the addresses of this test, asked and evaluated each second."""
    for name in FILES:
        (folder / name).write_text(hurried((FOLDER / name).read_text(), SECONDS))
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (told,) = config["alerting"]["alertmanagers"]
    told["static_configs"][0]["targets"] = [alertmanager]
    targets = {"triton": metrics, "launcher": launcher.status.removeprefix("http://")}
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in targets]
    for job in config["scrape_configs"]:
        job["static_configs"][0]["targets"] = [targets[job["job_name"]]]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    return Gate(tmp_path_factory.mktemp("gate") / "gate")


@pytest.fixture(scope="module")
def watched(tmp_path_factory, gate):
    """The launcher, Prometheus's address, and the webhook; all of it runs."""
    folder = tmp_path_factory.mktemp("watched")
    write_model(folder / "models", "cnn", gate.code + HELD, CONFIG)
    ports = free_ports("prometheus", "alertmanager")
    prometheus, alertmanager = (f"127.0.0.1:{ports[name]}" for name in ("prometheus", "alertmanager"))
    with contextlib.ExitStack() as stack:
        webhook = stack.enter_context(Webhook())
        launcher = stack.enter_context(Launcher(folder / "models", folder / "triton.log"))
        stack.enter_context(
            program(
                "prometheus-alertmanager",
                f"--config.file={alertmanager_config(folder / 'alertmanager.yml', webhook)}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",
                log=folder / "alertmanager.log",
            )
        )
        (metrics,) = (line.split("://")[1].split("/")[0] for line in launcher.lines if "metrics http" in line)
        stack.enter_context(
            program(
                "prometheus",
                f"--config.file={prometheus_config(folder, launcher, metrics, alertmanager)}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={prometheus}",
                log=folder / "prometheus.log",
            )
        )
        wait_until(lambda: get(f"http://{prometheus}/-/ready")[0] == 200)
        wait_until(lambda: get(f"http://{alertmanager}/-/ready")[0] == 200)
        yield launcher, prometheus, webhook


def refused(launcher):
    """Send one request; whether it was refused for want of room or time. Raises for other failures."""
    tensor = grpc.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    with grpc.InferenceServerClient(launcher.grpc) as client:
        try:
            client.infer("cnn", [tensor])
        except InferenceServerException as error:
            if "maximum queue size" in error.message() or "timeout expired" in error.message():
                return True
            raise
    return False


def test_an_overload_pages_and_resolves(watched, gate):
    """The model is held, its queue full, and what waits there times out; then there is room again."""
    launcher, _, webhook = watched

    def fired():
        return all(("page", name, "firing") in webhook.told for name in OVERLOAD)

    def press():
        wait_until(lambda: refused(launcher) and fired())

    with ThreadPoolExecutor(MOST) as pool:
        with gate.closed():
            held = pool.submit(refused, launcher)
            gate.wait_until_held()
            for done in [pool.submit(press) for _ in range(MOST - 1)]:
                done.result()
        assert not held.result()
    for name in OVERLOAD:
        wait_until(lambda name=name: ("page", name, "resolved") in webhook.told)


def test_a_process_that_dies_is_told_of_and_resolves(watched, gate):
    launcher, _, webhook = watched

    def kill():
        before = launcher.count("triton_vision_model_restarts_total", "cnn")
        os.kill(launcher.stubs("cnn")[-1], 9)  # what was loaded before may still be ending
        wait_until(lambda: launcher.count("triton_vision_model_restarts_total", "cnn") > before)

    wait_until(lambda: (kill(), ("page", "ModelsAreMissing", "firing") in webhook.told)[1])
    wait_until(lambda: ("page", "ModelsAreMissing", "resolved") in webhook.told)


def test_prometheus_reads_every_rule_and_the_summaries(watched):
    launcher, prometheus, _ = watched
    assert not refused(launcher)
    rules = json.loads(get(f"http://{prometheus}/api/v1/rules")[1])["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}
    query = "nv_inference_request_summary_us%7Bquantile%3D%220.99%22%7D%20%3E%200"
    wait_until(
        lambda: json.loads(get(f"http://{prometheus}/api/v1/query?query={query}")[1])["data"]["result"]
    )
