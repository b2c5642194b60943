"""deploy/kubernetes: every example is what Kubernetes takes; wrong values are told in clear words."""

import functools
import json
import re

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from server._version import __version__
from tests.conftest import ROOT
from tests.kubernetes import schemas
from tests.kubernetes.tools import (
    CHART,
    EXAMPLES,
    KUBERNETES,
    VERSIONS,
    example,
    only,
    rendered,
    run,
    template,
)

WRONG = [  # settings added to examples/gateway.yaml, and what is said of them
    ("replicas=two", "at '/replicas': got string, want integer"),
    ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
    ("replcas=3", "additional properties 'replcas' not allowed"),
    ("gateway.tls=x", "at '/gateway': additional properties 'tls' not allowed"),
    ("image.digest=abc", "at '/image/digest': 'abc' does not match"),
    ("image.repository=", "image.repository is missing: build deploy/Dockerfile"),
    ("image.digest=", "image.tag and image.digest are both missing"),
    ("models.source=s3", "at '/models/source': value must be one of 'pvc', 'objectStore', 'image'"),
    ("models.pvc.claimName=", "models.pvc.claimName is missing"),
    ("models.pvc.subPath=../x", "at '/models/pvc/subPath'"),
    ("models.source=objectStore", "models.objectStore.path is missing"),
    ("models.source=objectStore,models.objectStore.path=a", "models.objectStore.secretName is missing"),
    (
        "models.source=objectStore,models.objectStore.path=a,models.objectStore.secretName=b",
        "models.signature names no key: whoever writes to the store could run code here",
    ),
    ("models.signature.secretName=a,models.signature.configMapName=b", "the key is in one of them"),
    ("server.arguments={--address=::}", "server.arguments has --address=::: of the launcher's options"),
    ("server.arguments={--http-port=1}", "server.arguments has --http-port=1"),
    ("server.arguments={--addr=::}", "server.arguments has --addr=::"),  # argparse knows what is meant
    ("server.arguments={--servers=2}", "server.arguments has --servers=2"),
    ("server.tritonArguments={--http-port=1}", "server.tritonArguments has --http-port=1: the chart gives"),
    ("resources.requests.memory=9000Mi", "resources.requests.memory is 9000Mi, and limits.memory 8Gi: less"),
    ("gateway.resources.limits.cpu=900m", "gateway.resources.requests.cpu is 1, and limits.cpu 900m: less"),
    ("image.repository=a.example:5000/b:1", "at '/image/repository'"),
    ("readiness.model=..", "at '/readiness/model'"),
    ("gateway=null", "at '': missing property 'gateway'"),
    ("networkPolicy.enabled=null", "at '/networkPolicy': missing property 'enabled'"),
    ("server.configName=tensorrt", "server.configName is tensorrt, and gpu.count is 0: TensorRT needs a GPU"),
    ("gpu.count=-1", "at '/gpu/count': minimum"),
    ("gpu.resource=gpu", "at '/gpu/resource'"),
    ("sharedMemory=1GB", "at '/sharedMemory': '1GB' does not match"),
    ("drain.announceSeconds=0", "at '/drain/announceSeconds': minimum: got 0, want 2"),
    ("drain.announceSeconds=61", "at '/drain/announceSeconds': maximum: got 61, want 60"),
    ("replicas=11", "11 servers are too many for a gateway"),
    ("rollingUpdate.maxSurge=0", "nothing could ever be updated"),
    ("autoscaling.kind=vpa", "at '/autoscaling/kind': value must be one of 'none', 'hpa', 'keda'"),
    ("autoscaling.minReplicas=20", "autoscaling.minReplicas is 20, and maxReplicas 8: fewer"),
    ("autoscaling.kind=keda", "autoscaling.prometheusUrl is missing"),
    ("gateway.tlsSecretName=", "gateway.tlsSecretName is missing: keys are not sent in the clear"),
    ("gateway.keysSecretName=", "gateway.keysSecretName is missing: nobody would get in"),
    ("gateway.arguments={--gateway-port=1}", "gateway.arguments has --gateway-port=1"),
    ("gateway.enabled=false", "nobody would reach Triton"),
    ("readiness.model=a&b", "at '/readiness/model'"),
]

# Those between the least and the newest are `long`.
TESTED = [
    version if version in (VERSIONS[0], VERSIONS[-1]) else pytest.param(version, marks=pytest.mark.long)
    for version in VERSIONS
]
utils.schema_contents = functools.cache(utils.schema_contents)  # it reads 2 MB for each object


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", TESTED)
def test_every_example_is_what_kubernetes_takes(values, version):
    kinds = set()
    for one in rendered(values, version=version):
        check(one, version)
        kinds.add(one["kind"])
    assert kinds >= {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}


def test_the_examples_show_every_kind_and_most_values():
    objects = [one for values in EXAMPLES for one in rendered(values)]
    assert {one["kind"] for one in objects} >= {*schemas.TYPES, "HorizontalPodAutoscaler"}


def check(one, version):
    """Once for each object that is the same in several examples."""
    _check(json.dumps(one), version)


@functools.cache
def _check(text, version):
    one = json.loads(text)
    if one["kind"] in schemas.TYPES:
        schemas.validate(one)
    else:
        kubernetes_validate.validate(one, version, strict=True)


def test_an_unknown_field_is_seen():
    """The validators are as strict as they are taken for."""
    objects = {one["kind"]: one for values in EXAMPLES for one in rendered(values)}
    for kind in ("Deployment", "NetworkPolicy", "HorizontalPodAutoscaler", *schemas.TYPES):
        broken = {**objects[kind], "spec": {**objects[kind]["spec"], "replcas": 1}}
        with pytest.raises(Exception, match="replcas"):
            check(broken, VERSIONS[-1])


@pytest.mark.parametrize(("setting", "told"), WRONG, ids=[setting for setting, _ in WRONG])
def test_wrong_values_are_told(setting, told):
    done = template("--values", example("gateway"), "--set", setting)
    assert done.returncode != 0
    assert told in done.stderr


def test_no_values_at_all_are_told():
    done = template()
    assert done.returncode != 0
    assert "image.repository is missing" in done.stderr


def test_an_older_kubernetes_is_refused():
    done = template("--values", example("gateway"), version="1.26")
    assert done.returncode != 0
    assert "1.27" in done.stderr


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_helm_finds_no_fault(values):
    done = run("helm", "lint", "--strict", CHART, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_knows_each_value_and_no_other():
    """And asks for each: `null` takes a default away, which templates fail on, or take for false."""

    def paths(values, schema, path=""):
        """Those of `values` that the schema does not describe, and the other way round."""
        properties = schema.get("properties", {})
        if not properties or not isinstance(values, dict):
            return set()
        assert set(schema["required"]) == {key for key, value in values.items() if value is not None}, path
        different = {f"{path}.{key}" for key in set(values) ^ set(properties)}
        both = set(values) & set(properties)
        return different.union(*(paths(values[key], properties[key], f"{path}.{key}") for key in both))

    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert paths(values, schema) == {".global"}


def test_the_chart_is_of_this_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    assert re.search(r">=1\.(\d+)", chart["kubeVersion"])[1] == VERSIONS[0].split(".")[1]


def test_the_rules_are_those_of_compose():
    groups = []
    for name in ("slo.yml", "alerts.yml"):
        source, copy = ROOT / "deploy/prometheus" / name, CHART / "files" / name
        assert copy.read_text() == source.read_text(), (
            f"cp {source.relative_to(ROOT)} {copy.relative_to(ROOT)}"
        )
        groups += yaml.safe_load(source.read_text())["groups"]
    rule = only(rendered(example("gateway")), "PrometheusRule")
    assert rule["spec"] == {"groups": groups}
    assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_kserve_gets_what_it_knows():
    done = run("kubectl", "kustomize", KUBERNETES / "kserve")
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    for one in objects:
        schemas.validate(one)
        with pytest.raises(Exception, match="replcas"):
            schemas.validate({**one, "spec": {**one["spec"], "replcas": 1}})
    runtime, service = (only(objects, kind) for kind in ("ServingRuntime", "InferenceService"))
    (container,) = runtime["spec"]["containers"]
    assert container["image"] == "registry.example/triton-vision:0.1.0"
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in {one["name"] for one in runtime["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
