"""docker-compose.yml as it is, run by Docker under a project name and on ports of its own."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from tests import compose
from tests.conftest import ROOT
from tests.copies import copied
from tests.launcher import get

FILE = ROOT / "docker-compose.yml"
PORTS = (
    "HTTP_PORT",
    "GRPC_PORT",
    "METRICS_PORT",
    "STATUS_PORT",
    "PROMETHEUS_PORT",
    "GRAFANA_PORT",
    "ALERTMANAGER_PORT",
    "WEB_PORT",
)
SERVER_IMAGE = "triton-vision:containers-test"
LONGEST_START_S = 600  # so that only what never comes takes longer


def why_no_engine() -> str:
    """What is missing to run containers here; "" if nothing is."""
    if shutil.which("docker") is None:
        return "there is no docker"
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            return f"`{' '.join(command)}` fails: {said}"
    return ""


def has_image(image: str) -> bool:
    return not subprocess.run(
        ["docker", "image", "inspect", image], capture_output=True, check=False
    ).returncode


def image_of(service: str) -> str:
    """Its image, or what it is built from."""
    found = compose.load(FILE, dict(os.environ))["services"][service]
    return next(iter(found["build"]["args"].values())) if "build" in found else found["image"]


class Stack:
    """Services of the profile cpu and others, while entered. Ports of the host are `ports[NAME]`.

    variables: of docker-compose.yml.
    """

    def __init__(self, name: str, ports: list[int], **variables: str):
        self.ports = dict(zip(PORTS, ports, strict=True))
        self._name = name
        self._environment = {
            **os.environ,
            "SERVER_IMAGE": SERVER_IMAGE,
            **{port: str(number) for port, number in self.ports.items()},
            **variables,
        }

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "45", check=False)

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", "compose", "--project-name", self._name, "--profile", "cpu", *arguments],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"docker compose {' '.join(arguments)}:\n{done.stdout[-3000:]}"
        )
        return done

    def up(self, *services: str) -> None:
        self.compose("up", "--wait", "--wait-timeout", str(LONGEST_START_S), *services)

    def run(self, *command: str, service: str = "triton-cpu", check: bool = True) -> str:
        """What a command in the container says."""
        return self.compose("exec", "--no-TTY", service, *command, check=check).stdout

    def state(self, service: str = "triton-cpu") -> dict:
        """As `docker inspect` tells it."""
        container = self.compose("ps", "--all", "--quiet", service).stdout.split()[0]
        told = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
        return json.loads(told.stdout)[0]

    def logs(self, service: str = "triton-cpu") -> str:
        return self.compose("logs", "--no-log-prefix", service).stdout

    def url(self, port: str) -> str:
        return f"127.0.0.1:{self.ports[port]}"

    def ready(self) -> bool:
        return get(f"http://{self.url('STATUS_PORT')}/ready")[0] == 200

    def count(self, metric: str) -> int:
        """The launcher's own metric, over all models."""
        lines = get(f"http://{self.url('STATUS_PORT')}/metrics")[1].splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.split("{")[0].split(" ")[0] == metric]
        return sum(map(int, values))

    def statistics(self, model: str) -> tuple[int, int]:
        """Inferences and executions."""
        _, told = get(f"http://{self.url('HTTP_PORT')}/v2/models/{model}/stats")
        (version,) = json.loads(told)["model_stats"]
        return version["inference_count"], version["execution_count"]


def few_models(repository: Path, names: tuple[str, ...]) -> Path:
    """A repository of these models, which everybody may read."""
    for name in names:
        copied(ROOT / "model_repository" / name, repository / name)
    for path in (repository, *repository.parents):  # pytest's folders are their owner's alone
        if os.access(path, os.W_OK) and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    return repository


def wait_until(condition, timeout_s: float = LONGEST_START_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.2)
