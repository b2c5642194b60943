"""docker-compose.yml: valid, agreeing with the lock, the launcher and itself.

Nothing here runs a container or a server; tests/test_compose_services.py tries what the services run, and
tests/containers the whole where a Docker engine answers.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import check_jsonschema
import jsonschema
import pytest

from export.common import release
from export.pipelines.plans.configs import ENGINE_CACHE
from server.cli import parse_arguments
from server.running import run
from tests import compose
from tests.conftest import ROOT

FILE = ROOT / "docker-compose.yml"
DEPLOY = ROOT / "deploy"
SIGNED = DEPLOY / "compose.signed.yml"
PERF = {"perf", "perf-out"}
EXIT_TIMEOUT_S = 30  # tritonserver's default --exit-timeout-secs


@pytest.fixture(scope="module")
def services():
    return compose.load(FILE, {})["services"]


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
        ("gpu perf", {"triton", *PERF}),
        ("tensorrt perf", {"triton-tensorrt", *PERF}),
        ("cpu perf", {"triton-cpu", *PERF}),
        ("gpu web", {"triton", "web"}),
        ("cpu web", {"triton-cpu", "web"}),
        ("cpu gateway", {"triton-cpu", "gateway"}),
        ("cpu observability", {"triton-cpu", "prometheus", "grafana", "alertmanager"}),
        ("gpu observability", {"triton", "prometheus", "grafana", "alertmanager"}),
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


def test_without_a_folder_for_results_triton_is_not_started(services):
    """Compose makes all that perf waits for before it starts any; a bind of what is not there fails then."""
    perf, checked = services["perf"], services["perf-out"]
    assert perf["depends_on"]["perf-out"] == {"condition": "service_completed_successfully"}
    (results,) = checked["volumes"]
    assert results in perf["volumes"]
    assert (results["source"], results["bind"]["create_host_path"]) == ("./perf/out", False)
    assert "depends_on" not in checked
    assert checked["image"] == perf["image"]  # nothing more to pull


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
    used = set(re.findall(r"\$\{([A-Z_]+)", FILE.read_text() + SIGNED.read_text()))
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
    wanted = dict.fromkeys([*server, *re.findall(r'^cpu = \["([^"]+)"\]', text, re.M), *tfserving])
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
    for name in services.keys() - PERF:
        assert services[name]["read_only"] is True


def test_no_service_can_take_all_of_the_machine(services):
    """Memory of Triton: MEMORY_LIMIT, because nobody but its owner knows what a machine has."""
    for name, service in services.items():
        assert int(service["pids_limit"]) > 0, name
        assert all("size=" in mount for mount in service.get("tmpfs", [])), name
        assert "mem_limit" in service or name in PERF, name
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


def test_with_a_key_the_same_services_verify(services):
    """What the second file adds: the key as an option and as a mount, and it is not started without one."""
    with pytest.raises(compose.ComposeError, match="VERIFY_KEY"):
        compose.load(SIGNED, {})
    signed = compose.load(SIGNED, {"VERIFY_KEY": "./keys/models.pub.pem"})
    jsonschema.validate({"services": signed["services"]}, compose_schema())
    assert signed["services"].keys() == {name for name in services if name.startswith("triton")}
    for name, service in signed["services"].items():
        (key,) = service.pop("volumes")
        assert (key["source"], key["read_only"]) == ("./keys/models.pub.pem", True)
        assert service == {"command": [*services[name]["command"], "--verify-key", key["target"]]}
        assert key["target"] not in [v["target"] for v in services[name]["volumes"] if isinstance(v, dict)]
        (path,) = parse_arguments(service["command"][3:]).verify_key
        assert str(path) == key["target"]
    assert not parse_arguments(services["triton"]["command"][3:]).verify_key


def test_there_is_time_to_stop_in_order(services):
    for name in ("triton", "triton-cpu", "triton-tensorrt"):
        assert services[name]["stop_signal"] == "SIGTERM"
        assert EXIT_TIMEOUT_S < run.GRACE_S < compose.seconds(services[name]["stop_grace_period"])


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
