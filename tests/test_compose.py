"""docker-compose.yml: valid, agreeing with the lock and the launcher, its service tried on pip Triton.

Nothing here runs a container; tests/containers does, where a Docker engine answers. What can be tried without
one is: the service's own command, health check and stop, on the binary of the same release.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import check_jsonschema
import jsonschema
import pytest

from export.common import release
from export.pipelines.plans.configs import ENGINE_CACHE
from server.cli import main as server_main
from server.cli import parse_arguments
from server.environment import installation
from server.environment.ports import choose_ports
from server.operations.gateway.keys import Grant
from server.operations.gateway.process import find_haproxy
from server.running import run
from tests import compose
from tests.conftest import ROOT
from tests.gateways import Tenants, needs_haproxy, write_models
from tests.gateways import ask as ask_gateway
from tests.held import Gate
from tests.processes import alive, descendants, wait_until
from tests.server.test_launcher import HELD_CONFIG, HELD_MODEL, ask, is_ready

FILE = ROOT / "docker-compose.yml"
DEPLOY = ROOT / "deploy"
EXIT_TIMEOUT_S = 30  # tritonserver's default --exit-timeout-secs


@pytest.fixture(scope="module")
def services():
    return compose.load(FILE, {})["services"]


# --- the file


def compose_schema():
    package = Path(check_jsonschema.__file__).parent
    return json.loads((package / "builtin_schemas/vendor/compose-spec.json").read_text())


def test_it_is_valid_by_the_compose_specification():
    jsonschema.validate(compose.load(FILE, {}), compose_schema())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("services", "triton", "shm_sise"), "1gb"),
        (("services", "triton", "healthcheck", "retries"), [3]),
        (("services", "triton", "deploy", "resources", "reservations", "devices", 0, "capabilities"), "gpu"),
        (("services", "triton", "mem_limit"), [1]),
        (("services", "perf", "depends_on", "triton", "condition"), "service_is_fine"),
    ],
)
def test_the_schema_finds_faults(path, value):
    model = compose.load(FILE, {})
    node = model
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(model, compose_schema())


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        (None, {"triton"}),
        ("cpu", {"triton-cpu"}),
        ("tensorrt", {"triton-tensorrt"}),
        ("gpu perf", {"triton", "perf"}),
        ("tensorrt perf", {"triton-tensorrt", "perf"}),
        ("cpu perf", {"triton-cpu", "perf"}),
        ("gpu web", {"triton", "web"}),
        ("cpu web", {"triton-cpu", "web"}),
        ("cpu gateway", {"triton-cpu", "gateway"}),
        ("cpu observability", {"triton-cpu", "prometheus", "grafana"}),
        ("gpu observability", {"triton", "prometheus", "grafana"}),
    ],
)
def test_what_each_profile_starts(profiles, expected):
    """None is plain `docker compose up`, with the profiles of .env; --profile replaces those."""
    model = compose.load(FILE, {})
    chosen = profiles.split() if profiles else compose.dotenv(ROOT / ".env")["COMPOSE_PROFILES"].split(",")
    services = compose.active_services(model, chosen)
    assert set(services) == expected
    for name in {"perf", "web", "gateway"} & expected:
        assert set(services[name]["depends_on"]) == expected - {name}


def test_a_dependency_that_is_off_is_found():
    model = {"services": {"a": {"profiles": ["x"]}, "b": {"depends_on": {"a": {}}}}}
    with pytest.raises(compose.ComposeError, match="b depends on a"):
        compose.active_services(model, [])


def test_variables_replace_and_default():
    model = compose.load(FILE, {"BIND_ADDRESS": "0.0.0.0", "HTTP_PORT": "80", "SHM_SIZE": ""})
    triton = model["services"]["triton"]
    assert compose.published_ports(triton)[0] == ("0.0.0.0", "80", "8000")
    assert triton["shm_size"] == "1gb"
    pinned = f"{release.IMAGE}@sha256:{'0' * 64}"
    assert compose.load(FILE, {"TRITON_IMAGE": pinned})["services"]["triton"]["build"]["args"] == {
        "TRITON_IMAGE": pinned
    }


def test_each_variable_is_documented():
    text = (ROOT / "docs/reference/compose.md").read_text()
    used = set(re.findall(r"\$\{([A-Z_]+)", FILE.read_text()))
    assert {name for name in used if f"`{name}`" not in text} == set()


def test_the_images_are_those_of_the_lock(services):
    assert services["triton"]["build"]["args"]["TRITON_IMAGE"] == release.IMAGE
    assert services["perf"]["image"] == release.CONTAINER.facts["sdk_image"].value
    assert f"ARG TRITON_IMAGE={release.IMAGE}\n" in (DEPLOY / "Dockerfile").read_text()


def test_every_image_is_pinned(services):
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert "build" in service or re.search(r"\d+\.\d+", tag), f"{name}: {service['image']}"


def test_the_image_has_what_the_python_models_import():
    """Group server but for pip Triton, the ONNX Runtime of group cpu, and group tfserving."""
    text = (ROOT / "pyproject.toml").read_text()
    server, tfserving = (
        re.findall(r'^  "([^"]+)"', re.search(rf"^{name} = \[\n(.*?)^\]", text, re.M | re.S)[1], re.M)
        for name in ("server", "tfserving")
    )
    wanted = [*server, *re.findall(r'^cpu = \["([^"]+)"\]', text, re.M), *tfserving]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    installed = re.findall(r'"([^"]+)"', re.search(r"pip3 install ((?:.*\\\n)*.*)", dockerfile)[1])
    assert installed == [package for package in wanted if not package.startswith("nvidia-pytriton")]


def test_the_cpu_service_is_the_gpu_service_without_a_gpu(services):
    own = {"profiles", "deploy", "environment", "networks"}
    gpu, cpu, tensorrt = (
        {k: v for k, v in services[name].items() if k not in own}
        for name in ("triton", "triton-cpu", "triton-tensorrt")
    )
    assert gpu == cpu == tensorrt
    (device,) = services["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in services["triton-cpu"]
    assert services["triton-tensorrt"]["deploy"] == services["triton"]["deploy"]
    for name in ("triton-cpu", "triton-tensorrt"):
        assert services[name]["networks"]["default"]["aliases"] == ["triton"]


def test_the_tensorrt_service_takes_the_configs_that_export_writes():
    for given, name in ((None, "tensorrt"), ("tensorrt_accelerator", "tensorrt_accelerator")):
        variables = {"TENSORRT_CONFIG": given} if given else {}
        service = compose.load(FILE, variables)["services"]["triton-tensorrt"]
        assert service["environment"] == {"MODEL_CONFIG_NAME": name}
        assert f"/model_repository/*/configs/{name}.pbtxt".startswith("/model_repository/*/configs/tensorrt")


def test_services_get_no_more_rights_than_they_need(services):
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        added = ["SYS_NICE", "SYS_PTRACE"] if name.startswith("triton") else []
        assert service.get("cap_add", []) == added, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        for address, *_ in compose.published_ports(service):
            assert address == "127.0.0.1", name
    for name in services.keys() - {"perf"}:
        assert services[name]["read_only"] is True


def test_no_service_can_take_all_of_the_machine(services):
    """Memory of Triton: MEMORY_LIMIT, because nobody but its owner knows what a machine has."""
    for name, service in services.items():
        assert int(service["pids_limit"]) > 0, name
        assert all("size=" in mount for mount in service.get("tmpfs", [])), name
        assert "mem_limit" in service or name == "perf", name
    limits = {"MEMORY_LIMIT": "8g", "CPU_LIMIT": "4", "PIDS_LIMIT": "100", "TMP_SIZE": "2g"}
    triton = compose.load(FILE, limits)["services"]["triton"]
    assert (triton["mem_limit"], triton["cpus"], triton["pids_limit"]) == ("8g", "4", "100")
    assert triton["tmpfs"] == ["/tmp:size=2g,mode=1777"]


def test_the_model_repository_is_for_reading(services):
    assert services["triton"]["user"] == services["web"]["user"] == "1000:1000"
    (repository,) = (v for v in services["triton"]["volumes"] if isinstance(v, dict))
    assert (repository["target"], repository["read_only"]) == ("/models", True)


def test_what_is_mounted_exists(services):
    mounted = [
        volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
    ]
    paths = [source for source in mounted if source.startswith(".")]
    assert paths
    assert [source for source in paths if not (ROOT / source).exists()] == []
    assert {s for s in mounted if not s.startswith(".")} == compose.load(FILE, {})["volumes"].keys()


def test_engines_are_kept_where_the_configs_put_them(services):
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert f"cache:{ENGINE_CACHE}" in services["triton"]["volumes"]
    assert f"install -d -o 1000 -g 1000 {ENGINE_CACHE}\n" in dockerfile  # else the volume is root's
    assert f"CUDA_CACHE_PATH={ENGINE_CACHE}/" in dockerfile


# --- the same options as on a desk, health, stop


def test_the_command_is_one_that_the_launcher_takes(services):
    command = services["triton"]["command"]
    assert command[:3] == ["python3", "-m", "server"]
    arguments = parse_arguments(command[3:])
    assert str(arguments.model_repository) == "/models"
    health = services["triton"]["healthcheck"]
    url, longest = health["test"][-1], float(health["test"][health["test"].index("--max-time") + 1])
    assert url.endswith(f"{arguments.status_port}/ready?wait={arguments.start_timeout:g}")
    assert arguments.start_timeout < longest < compose.seconds(health["timeout"])
    inside = [port for *_, port in compose.published_ports(services["triton"])]
    asked = (arguments.http_port, arguments.grpc_port, arguments.metrics_port, arguments.status_port)
    assert inside == [str(port) for port in asked]


def test_there_is_time_to_stop_in_order(services):
    for name in ("triton", "triton-cpu", "triton-tensorrt"):
        assert services[name]["stop_signal"] == "SIGTERM"
        assert EXIT_TIMEOUT_S < run.GRACE_S < compose.seconds(services[name]["stop_grace_period"])


@pytest.fixture
def container_like(tmp_path, monkeypatch):
    """A `tritonserver` on PATH, as in the container; below it is pip Triton's binary with our backends."""
    pip = installation._pip_installation()
    backends = tmp_path / "opt/tritonserver/backends"
    for name, source in pip.backends.items():
        (backends / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, backends / name)
    binary = tmp_path / "opt/tritonserver/bin/tritonserver"
    binary.parent.mkdir()
    exports = "".join(f"export {name}='{value}'\n" for name, value in pip.environment.items())
    binary.write_text(f'#!/bin/sh\n{exports}exec {pip.binary} --backend-directory={backends} "$@"\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent), prepend=":")
    assert installation.find_installation().kind == "container"


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def repository(tmp_path, gate):
    """A repository that nobody may write. Its model holds requests at the gate."""
    version = tmp_path / "models" / "held" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(gate.code + HELD_MODEL)
    (version.parent / "config.pbtxt").write_text(HELD_CONFIG)
    folders = (version, version.parent, version.parent.parent)
    for path in folders:
        path.chmod(0o555)
    yield tmp_path / "models"
    for path in folders:
        path.chmod(0o755)


def unprivileged():
    """A prefix that takes what the service does not have: every capability, and the way to new ones.

    Root is then refused by file modes as user 1000 is in the container.
    """
    if shutil.which("setpriv") is None:
        return []
    drop = ["--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return ["setpriv", "--no-new-privs", *drop]


def test_the_service_starts_is_healthy_drains_and_stops(services, container_like, repository, gate):
    """Its own command, health check and stop signal, without rights, on the binary of the same release."""
    triton = services["triton"]
    swap = {"python3": sys.executable, "/models": str(repository), "0.0.0.0": "127.0.0.1"}
    command = [swap.get(word, word) for word in triton["command"]]
    command += [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    started = subprocess.Popen(
        [*unprivileged(), *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        lines = []
        for line in started.stdout:
            lines.append(line.strip())
            if "Ctrl-C" in line or "Not all models" in line:
                break
        assert lines[0].startswith("Triton (container) serves")
        urls = {line.split()[0]: line.split()[1] for line in lines if line.split()[0] in ("status", "gRPC")}
        ready = "http://127.0.0.1:8003/ready"
        check = [word.replace(ready, urls["status"]) for word in triton["healthcheck"]["test"]]
        assert check.pop(0) == "CMD"
        assert subprocess.run(check, check=False).returncode == 0

        pids = descendants(started.pid)
        with ThreadPoolExecutor() as threads, gate.closed():
            request = threads.submit(ask, urls["gRPC"], 3.0)
            gate.wait_until_held()
            started.send_signal(getattr(signal, triton["stop_signal"]))
            wait_until(lambda: not is_ready(urls["gRPC"]))
            gate.open()
            assert request.result() == 3.0
        assert started.wait() == 0
        assert alive(pids) == []
        assert subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode != 0
        if unprivileged():
            assert {path.name for path in repository.rglob("*")} == {"held", "1", "model.py", "config.pbtxt"}
    finally:
        started.terminate()
        started.wait()


def test_the_page_starts_is_healthy_and_stops(services):
    """Its own command, health check and stop signal, without rights; the server is away."""
    web = services["web"]
    assert web["command"][0] == "triton-vision"  # of the wheel, tests/client/test_wheel.py
    command = [word if word != "0.0.0.0" else "127.0.0.1" for word in web["command"][1:]]
    page = [*unprivileged(), sys.executable, "-m", "client", *command, "--port=0", "--json"]
    with subprocess.Popen(page, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        try:
            url = json.loads(started.stdout.readline())["page"]
            ((_, _, inside),) = compose.published_ports(web)
            said = f"http://127.0.0.1:{inside}/"
            assert said in web["healthcheck"]["test"][-1]
            check = [word.replace(said, url) for word in web["healthcheck"]["test"][1:]]
            assert check[0] == "python"
            check[0] = sys.executable
            assert subprocess.run(check, check=False).returncode == 0
        finally:
            started.terminate()
        assert started.wait() == 0
        assert subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode != 0


@needs_haproxy
def test_the_gateway_starts_is_healthy_reloads_and_stops(services, tmp_path, monkeypatch):
    """Its own command, health check and signals, without rights, on what the page's command writes for it."""
    gateway = services["gateway"]
    (mount,) = gateway["volumes"]
    page = (ROOT / "docs/how-to/gateway.md").read_text()
    (written,) = re.findall(r"^python -m server (gateway render .*deploy/gateway .*)$", page, re.M)
    output = tmp_path / "gateway"
    ports = choose_ports("127.0.0.1", {"gateway": 0, "metrics": 0})
    swap = {"deploy/gateway": str(output), "triton:8000:8001:8003": "127.0.0.1:1:1:1"}
    command = [swap.get(word, word) for word in shlex.split(written)]
    command += [
        f"--folder={output}",
        f"--gateway-port={ports['gateway']}",
        f"--model-repository={tmp_path / 'm'}",
    ]
    command += [f"--gateway-metrics-port={ports['metrics']}", "--address=127.0.0.1", "--resolver=system"]
    write_models(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    tenants = Tenants(tmp_path / "gateway-keys.txt")
    assert server_main(command) == 0
    config = output / "haproxy.cfg"
    config.write_text(config.read_text().replace("/tmp/haproxy.sock", f"{short_folder()}/haproxy.sock"))
    inside = [port for *_, port in compose.published_ports(gateway)]
    assert inside == ["8443", "8404"]
    assert f"{mount['target']}/haproxy.cfg" == gateway["command"][-1]
    start = [*unprivileged(), str(find_haproxy()), *gateway["command"][1:-1], str(config)]
    check = [word.replace("/8404", f"/{ports['metrics']}") for word in gateway["healthcheck"]["test"][1:]]
    with subprocess.Popen(start, stdout=subprocess.DEVNULL) as started:
        try:
            wait_until(lambda: subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode == 0)
            more = Tenants(tmp_path / "gateway-keys.txt", Grant("alice"))
            assert ask_gateway(ports["gateway"], "GET", "/v2", more["alice"])[0] == 401
            assert server_main(command) == 0
            config.write_text(
                config.read_text().replace("/tmp/haproxy.sock", f"{short_folder()}/haproxy.sock")
            )
            started.send_signal(signal.SIGUSR2)
            wait_until(lambda: ask_gateway(ports["gateway"], "GET", "/v2", more["alice"])[0] == 503)
            assert tenants.keys == {}
        finally:
            started.send_signal(getattr(signal, gateway["stop_signal"]))
        assert started.wait() in (0, 128 + signal.SIGUSR1, 143)
        assert subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode != 0


def short_folder():
    """A socket's path is short."""
    return tempfile.mkdtemp(prefix="gw")


def test_docker_compose_reads_it_alike():
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no docker compose here")
    for profile in ("gpu", "cpu", "tensorrt"):
        command = ["docker", "compose", "--profile", profile, "config", "--format", "json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        ours = compose.active_services(compose.load(FILE, dict(os.environ)), [profile])
        theirs = json.loads(done.stdout)["services"]
        assert theirs.keys() == ours.keys()
        for name, service in ours.items():
            assert theirs[name]["command"] == service["command"]
            assert theirs[name]["healthcheck"]["test"] == service["healthcheck"]["test"]
