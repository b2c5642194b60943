"""What pods may do and have: rights, models, configurations, images, GPUs."""

import os
import re
import shutil
import subprocess

import pytest

from tests import compose
from tests.conftest import ROOT
from tests.kubernetes.gateways import write_configuration
from tests.kubernetes.tools import (
    ALL,
    SLOT_S,
    container,
    example,
    only,
    pods,
    rendered,
)
from tests.launcher import write_model


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
