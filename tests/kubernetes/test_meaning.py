"""What the chart's objects say to each other and to our server: ports, paths, times, who reaches whom."""

import os
import re
import shutil
import subprocess
import sys

import promql_parser
import pytest
import yaml

from export.repository.signing import new_key
from server.running.run import GRACE_S
from tests import compose
from tests.conftest import ROOT
from tests.kubernetes.cluster import write_configuration
from tests.kubernetes.tools import EXAMPLES, KUBERNETES, NAME, NAMESPACE, container, example, only, rendered
from tests.launcher import Launcher, get, write_model

ALL = pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)


def pods(objects):
    """(name, spec, labels) of each Deployment's pods."""
    for one in objects:
        if one["kind"] == "Deployment":
            template = one["spec"]["template"]
            yield one["metadata"]["name"], template["spec"], template["metadata"]["labels"]


SLOT_S = 120  # before the gateway gives a server's place to another


def matches(selector, labels):
    return selector.items() <= labels.items()


def probes(one):
    return {kind: one[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}


# --- probes and the end of a pod


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


# --- who finds, reaches, evicts whom


@ALL
def test_every_selector_selects_the_pods_that_it_is_for(values):
    objects = rendered(values)
    labels = {name.removeprefix(f"{NAME}-"): its for name, _, its in pods(objects)}
    for one in objects:
        spec, name = one.get("spec", {}), one["metadata"]["name"]
        selector = {
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "PodMonitor": lambda spec: spec["selector"]["matchLabels"],
        }.get(one["kind"])
        if not selector:
            continue
        selected = [part for part, its in labels.items() if matches(selector(spec), its)]
        wanted = name.removeprefix(NAME).strip("-").replace("servers", "server")
        wanted = wanted or ("gateway" if "gateway" in labels else "server")
        assert selected == [wanted], (one["kind"], name)


@ALL
def test_services_point_to_ports_of_their_pods(values):
    objects = rendered(values)
    for service in (one for one in objects if one["kind"] == "Service"):
        for _, spec, labels in pods(objects):
            if matches(service["spec"]["selector"], labels):
                names = {port["name"] for port in spec["containers"][0]["ports"]}
                assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def test_the_gateway_finds_the_servers_by_a_headless_service():
    objects = rendered(example("gateway"))
    service = only(objects, "Service", "-servers")
    assert service["spec"]["clusterIP"] == "None"
    assert not service["spec"].get("publishNotReadyAddresses")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    address = f"{service['metadata']['name']}.{NAMESPACE}.svc.cluster.local"
    *_, rendering = only(objects, "Deployment", "gateway")["spec"]["template"]["spec"]["initContainers"]
    assert f"--server={address}:{ports['http']}:{ports['grpc']}:{ports['status']}" in rendering["command"]
    assert "--resolver=system" in rendering["command"]


@ALL
def test_a_node_can_always_be_drained(values):
    budgets = [one["spec"] for one in rendered(values, "replicas=1") if one["kind"] == "PodDisruptionBudget"]
    assert budgets
    for budget in budgets:
        assert budget["maxUnavailable"] == 1
        assert "minAvailable" not in budget


@ALL
def test_only_the_gateway_and_prometheus_reach_triton(values):
    objects = rendered(values)
    gateway = any(name.endswith("gateway") for name, _, _ in pods(objects))
    (policy,) = (
        one["spec"]
        for one in objects
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"].endswith("server")
    )
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    reached: dict[str, list] = {}
    for rule in policy["ingress"]:
        assert rule["from"]  # an empty list would be anybody
        for port in rule["ports"]:
            reached.setdefault(port["port"], []).extend(rule["from"])
    monitoring = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    if gateway:
        (its,) = (labels for name, _, labels in pods(objects) if name.endswith("gateway"))
        (peer,) = reached["http"]
        assert matches(peer["podSelector"]["matchLabels"], its)
        assert "namespaceSelector" not in peer  # of its own namespace
        assert reached == {
            "http": [peer],
            "grpc": [peer],
            "status": [peer, *monitoring],
            "metrics": monitoring,
        }
    else:
        clients = [{"podSelector": {}}]
        assert reached == {"http": clients, "grpc": clients, "status": monitoring, "metrics": monitoring}
    names = {port["name"] for port in container(objects, "server")["ports"]}
    assert set(reached) <= names
    if "object-store" not in values.name:
        assert policy["egress"] == []


def test_an_autoscaled_deployment_has_no_number_of_its_own():
    for name, kind in (("autoscaled", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")):
        objects = rendered(example(name))
        deployment = only(objects, "Deployment", "server")
        assert "replicas" not in deployment["spec"]
        target = only(objects, kind)["spec"]["scaleTargetRef"]
        assert target["name"] == deployment["metadata"]["name"]
    assert only(rendered(example("gateway")), "Deployment", "server")["spec"]["replicas"] == 3


def test_scaling_asks_for_a_metric_of_the_servers(server):
    """The adapter gives the HPA's metric its name; both ask for a series that is at the real /metrics."""
    adapter = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    (metric,) = only(rendered(example("autoscaled")), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    (trigger,) = only(rendered(example("keda")), "ScaledObject")["spec"]["triggers"]
    series = re.match(r"\w+", rule["seriesQuery"])[0]
    filled = rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.LabelMatchers>>", 'pod="a"')
    for query in (filled.replace("<<.GroupBy>>", "pod"), trigger["metadata"]["query"]):
        promql_parser.parse(query)
        assert series in query
    status, text = get(server.metrics_url)
    assert status == 200
    assert f"# TYPE {series} counter" in text
    service = re.search(r'service="([^"]+)"', trigger["metadata"]["query"])[1]
    assert service == only(rendered(example("keda")), "Service", "-servers")["metadata"]["name"]


def test_metrics_are_read_as_the_jobs_that_alerts_name():
    objects = rendered(example("gateway"))
    monitor = only(objects, "ServiceMonitor")["spec"]
    service = only(objects, "Service", "-servers")
    assert matches(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    jobs = {
        endpoint["relabelings"][0]["replacement"]: ports[endpoint["port"]]
        for endpoint in monitor["endpoints"]
    }
    compose_jobs = {
        job["job_name"]: job
        for job in yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    }
    assert {
        *jobs,
        only(objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["relabelings"][0]["replacement"],
    } == {*compose_jobs}
    for endpoint, (job, port) in zip(monitor["endpoints"], jobs.items(), strict=True):
        (target,) = compose_jobs[job]["static_configs"][0]["targets"]
        assert target.endswith(f":{port}")
        (host,) = compose_jobs[job]["relabel_configs"]  # by which alerts join what the two jobs say
        assert endpoint["relabelings"][1] == {
            "sourceLabels": host["source_labels"],
            "regex": host["regex"],
            "targetLabel": host["target_label"],
        }


# --- rights, models, images


@ALL
def test_pods_are_restricted(values):
    """Pod Security Standards, level `restricted`, and more."""
    for _, spec, _ in pods(rendered(values)):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & spec.keys()
        for one in [*spec["containers"], *spec.get("initContainers", [])]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert one["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in one["resources"]["limits"]
        assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
    accounts = [one for one in rendered(values) if one["kind"] == "ServiceAccount"]
    assert all(one["automountServiceAccountToken"] is False for one in accounts)


@ALL
def test_every_mount_has_its_volume_and_every_volume_its_mount(values):
    for _, spec, _ in pods(rendered(values)):
        mounted = [
            mount
            for one in [*spec["containers"], *spec.get("initContainers", [])]
            for mount in one["volumeMounts"]
        ]
        assert {mount["name"] for mount in mounted} == {volume["name"] for volume in spec["volumes"]}


def test_what_compose_lets_be_written_can_be_written_here():
    service = compose.load(ROOT / "docker-compose.yml", {})["services"]["triton"]
    server = container(rendered(example("gateway")), "server")
    writable = {mount["mountPath"] for mount in server["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/dev/shm", "/var/cache/tensorrt"}
    assert service["tmpfs"][0].startswith("/tmp:")
    assert "cache:/var/cache/tensorrt" in service["volumes"]
    spec = only(rendered(example("gateway")), "Deployment", "server")["spec"]["template"]["spec"]
    memory = {volume["name"]: volume.get("emptyDir", {}) for volume in spec["volumes"]}["shared-memory"]
    assert memory == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert (
        f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == service["user"]
    )


def test_where_models_come_from():
    signed = only(rendered(example("object-store")), "Deployment", "server")["spec"]["template"]["spec"]
    (copies,) = signed["initContainers"]
    assert "store:models/production" in copies["args"]
    (server,) = signed["containers"]
    assert "--verify-key=/etc/triton-vision/public.pem" in server["command"]
    mounts = {mount["mountPath"]: mount for mount in server["volumeMounts"]}
    assert mounts["/models"]["readOnly"] is mounts["/etc/triton-vision"]["readOnly"] is True
    (temporary,) = (one["value"] for one in server["env"] if one["name"] == "TMPDIR")
    assert temporary in mounts  # for copies of what was verified
    store = rendered(example("object-store"))
    gateway = only(store, "Deployment", "gateway")["spec"]["template"]["spec"]
    copies, configuration = gateway["initContainers"]
    assert {"--include=*.pbtxt", "--include=model.sig"} <= {*copies["args"]}
    assert "--verify-key=/etc/triton-vision/public.pem" in configuration["command"]
    assert "/etc/triton-vision" in {mount["mountPath"] for mount in configuration["volumeMounts"]}
    assert [volume for volume in gateway["volumes"] if volume["name"] == "key"] == [
        volume for volume in signed["volumes"] if volume["name"] == "key"
    ]
    own = rendered(example("cpu-minimal"), "models.source=image")
    assert "/models" not in {mount["mountPath"] for mount in container(own, "server")["volumeMounts"]}
    from_image = only(rendered(example("tensorrt")), "Deployment", "server")["spec"]["template"]["spec"]
    assert from_image["initContainers"][0]["image"] == "registry.example/models:2026-07"


def test_the_store_is_copied_by_the_init_containers_command(tmp_path):
    """rclone itself, as the chart calls it, from a folder in place of a bucket; the gateway gets less."""
    if not shutil.which("rclone"):
        pytest.skip("no rclone here: `apt-get install rclone`")
    bucket = tmp_path / "bucket" / "models" / "production"
    write_model(bucket, "echo")
    variables = {"RCLONE_CONFIG_STORE_TYPE": "alias", "RCLONE_CONFIG_STORE_REMOTE": str(tmp_path / "bucket")}
    for component, code in (("server", True), ("gateway", False)):
        pod = only(rendered(example("object-store")), "Deployment", component)["spec"]["template"]["spec"]
        copies, target = pod["initContainers"][0], tmp_path / component
        words = [str(target) if word == "/models" else word for word in copies["args"]]
        given = {one["name"]: one["value"] for one in copies["env"]} | variables
        environment = {"PATH": os.environ["PATH"], **given, "HOME": str(tmp_path)}
        subprocess.run(["rclone", *words], env=environment, check=True, capture_output=True)
        assert (target / "echo" / "config.pbtxt").is_file()
        assert (target / "echo" / "1" / "model.py").is_file() is code


def test_the_gateways_configuration_is_written_by_the_init_containers_command(tmp_path):
    """From configurations alone: what the gateway's pod has of a store."""
    folder, models = tmp_path / "gateway", tmp_path / "models"
    folder.mkdir()
    for name in ("text_stream", "efficientnet_lite0"):
        (models / name).mkdir(parents=True)
        shutil.copy(ROOT / "model_repository" / name / "config.pbtxt", models / name)
    for name in ("tls.crt", "tls.key"):
        (folder / name).write_text(f"{name}\n")
    (folder / "gateway-keys.txt").write_text(f"alice sha256:{'a' * 64} rate=5 concurrency=2\n")
    deployment = only(
        rendered(example("gateway"), "gateway.arguments={--gateway-max-body=4}"), "Deployment", "gateway"
    )
    write_configuration(deployment, folder, models, 23000, 53)
    assert (folder / "tls.pem").read_text() == "tls.crt\ntls.key\n"
    config = (folder / "haproxy.cfg").read_text()
    assert len(re.findall(r"^ +server s\d+ servers.test:23000 .* resolvers names", config, re.M)) == 16
    assert re.search(r"hold obsolete (\d+)s", config)[1] == str(SLOT_S)
    assert "http-after-response set-header connection close if { stopping }" in config
    assert "track" not in "".join(re.findall(r"^ +server .*", config, re.M))  # pods have one name
    assert f"crt {folder}/tls.pem" in config
    assert str(4 * 2**20) in config
    assert (folder / "sequences.map").read_text() == "text_stream 1\n"
    assert "alice 5|2|user" in (folder / "tenants.map").read_text()


def test_gpus_and_the_configuration_for_them():
    gpu = container(rendered(example("tensorrt")), "server")
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "MODEL_CONFIG_NAME", "value": "tensorrt"} in gpu["env"]
    assert "NVIDIA_VISIBLE_DEVICES" not in {one["name"] for one in gpu["env"]}
    cpu = container(rendered(example("cpu-minimal")), "server")
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in cpu["env"]
    assert only(rendered(example("gpu")), "Deployment", "server")["spec"]["template"]["spec"][
        "runtimeClassName"
    ]
    empty = container(rendered(example("cpu-minimal"), "server.configName="), "server")
    assert {"name": "MODEL_CONFIG_NAME", "value": ""} in empty["env"]


def test_a_digest_wins():
    assert "@sha256:" in container(rendered(example("gateway")), "server")["image"]
    both = container(rendered(example("gateway"), "image.tag=v1"), "server")["image"]
    assert both.startswith("registry.example/triton-vision@sha256:")


def test_what_is_chosen_reaches_the_command():
    objects = rendered(
        example("gateway"), "server.arguments={--open=trace}", "server.tritonArguments={--log-verbose=1}"
    )
    assert container(objects, "server")["command"][-3:] == ["--open=trace", "--", "--log-verbose=1"]
