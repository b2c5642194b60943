"""Who finds, reaches, scales, watches and evicts whom, as the objects of the chart say to each other."""

import re

import promql_parser
import yaml

from tests.conftest import ROOT
from tests.kubernetes.tools import (
    ALL,
    KUBERNETES,
    NAME,
    NAMESPACE,
    container,
    example,
    matches,
    only,
    pods,
    rendered,
)
from tests.launcher import get


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
