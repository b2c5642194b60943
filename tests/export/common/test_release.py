"""Everything that names a version of Triton, or of what comes with it, agrees with `release.json`."""

import re
from pathlib import Path

import pytest
import tritonclient.grpc as grpc

from export.common import release

ROOT = Path(__file__).resolve().parents[3]
RELEASES, SHARED, CONTAINER = release.RELEASES, release.SHARED, release.CONTAINER

# Files that name container images, and files whose prose names versions.
WITH_IMAGES = ("docker-compose*", "deploy/**/*", "Makefile", "{export,server,client,perf}/**/*.py")
WITH_PROSE = ("*.md", "docs/**/*.md", "*/README.md", "pyproject.toml", "docker-compose*", "deploy/**/*")

NOT_TEXT = (".png", ".jpg", ".webp", ".gif", ".pyc")

IMAGE = re.compile(r"nvcr\.io/nvidia/(?:tritonserver|tensorrt)(?P<tag>:[^\s\"'`),;]*)?")
TAG = re.compile(r"\b(\d\d\.\d\d)(?:-py3|: tritonserver)")


def values(name):
    """Those that any release of the lock has for a fact."""
    return [each.facts[name].value for each in RELEASES.values()]


DRIVERS = [
    *values("driver"),
    *(driver for drivers in values("driver_of_data_center_gpus") for driver in drivers),
    SHARED["driver_of_cuda_13"].value,
]

# What a version may follow, and the versions that it may then be. A mention may leave the last parts out; one
# with a major version only ("TensorRT 11 has no weak typing") says nothing of what is used here.
MENTIONS = [
    (r"(?:Triton|tritonserver|server) (?:version )?(?=\d+\.\d+\.\d)", values("triton")),
    (
        r"(?:Triton|tritonserver|release|container) (?=\d\d\.\d\d\b(?!\.\d))",
        list(RELEASES),
    ),
    (r"nvidia-pytriton(?:==|`? )(?=\d)", [SHARED["pip_triton"].value.partition("==")[2]]),
    (r"ONNX Runtime (?=\d+\.\d)", values("onnxruntime")),
    (r"TensorRT (?=\d+\.\d)", values("tensorrt")),
    (r"CUDA (?=\d+\.\d)", values("cuda")),
    (r"[Dd]river (?:release |version |R)?(?=\d\d\d)", DRIVERS),
]


def disagreements(text, with_prose=True):
    """Each mention of a version in the text that is not the lock's."""
    found = []
    for match in IMAGE.finditer(text):
        tag = match["tag"] or ""
        named = re.findall(r"\d\d\.\d\d", tag)
        if not set(named) <= RELEASES.keys() or not (named or re.search(r"[<$]", tag)):
            found.append(match[0])
    found += [match[0] for match in TAG.finditer(text) if match[1] not in RELEASES]
    for before, versions in MENTIONS if with_prose else ():
        for match in re.finditer(before + r"(\d+(?:\.\d+)*)", text):
            if not any((version + ".").startswith(match[1] + ".") for version in versions):
                found.append(match[0])
    return found


def files(patterns):
    for pattern in patterns:
        for alternative in _alternatives(pattern):
            for path in sorted(ROOT.glob(alternative)):
                if path.is_file() and path.suffix not in NOT_TEXT:
                    yield path


def _alternatives(pattern):
    if match := re.fullmatch(r"\{(.*)\}(.*)", pattern):
        return [folder + match[2] for folder in match[1].split(",")]
    return [pattern]


def unreleased(path):
    """The text, but of a changelog only what is not released: older releases name older versions."""
    text = path.read_text()
    if path.name == "CHANGELOG.md":
        text = "\n## ".join(text.split("\n## ")[:2])
    return text


def test_every_mention_of_a_version_agrees_with_the_lock():
    wrong = {
        str(path.relative_to(ROOT)): found
        for patterns, with_prose in ((WITH_IMAGES, False), (WITH_PROSE, True))
        for path in files(patterns)
        if (found := disagreements(unreleased(path), with_prose))
    }
    assert not wrong, "correct these, or release.json"


def test_the_scan_covers_what_names_versions():
    scanned = {str(path.relative_to(ROOT)) for path in files(WITH_PROSE)}
    assert {"README.md", "CHANGELOG.md", "docs/reference/serving.md", "pyproject.toml"} <= scanned


@pytest.mark.parametrize(
    "wrong",
    [
        "image: nvcr.io/nvidia/tritonserver:24.09-py3",
        "FROM nvcr.io/nvidia/tensorrt:latest",
        "FROM nvcr.io/nvidia/tritonserver",
        "pull the `24.11-py3-sdk` image",
        "| 24.09: tritonserver |",
        "tritonserver 2.50.0",
        "Triton 24.12",
        '"nvidia-pytriton==0.6.0",',
        "ONNX Runtime 1.20",
        "TensorRT 10.4.0",
        "TensorRT 11.4",
        "CUDA 12.5",
        "driver 550",
    ],
)
def test_another_version_is_found(wrong):
    assert disagreements(f"Some text, {wrong}, and more.")


@pytest.mark.parametrize(
    "right",
    [
        f"image: {CONTAINER.image}",
        f"FROM {CONTAINER.facts['sdk_image'].value}",
        "image: nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3",
        f"tritonserver {release.PIP.triton}, ONNX Runtime {release.ONNXRUNTIME[:4]}",
        f"pip install {SHARED['pip_triton'].value}",
        "TensorRT 11 has no weak typing; driver 535.86 or later",
    ],
)
def test_what_the_lock_says_is_not_found(right):
    assert not disagreements(right)


def test_each_fact_has_a_source():
    facts = [*SHARED.values(), *(fact for each in RELEASES.values() for fact in each.facts.values())]
    assert all(fact.value and fact.source and isinstance(fact.confirmed, bool) for fact in facts)


def test_each_release_states_the_same_facts_and_they_agree_with_each_other():
    for name, each in RELEASES.items():
        assert each.facts.keys() == CONTAINER.facts.keys()
        for image in ("image", "sdk_image", "tensorrt_image"):
            assert each.facts[image].value.partition(":")[2].startswith(f"{name}-py3")
    assert list(RELEASES) == sorted(RELEASES)
    assert release.OPSET <= release.MAX_OPSET


def test_a_graph_keeps_to_what_every_release_takes():
    for each in RELEASES.values():
        assert each.max_opset >= release.MAX_OPSET
        assert each.max_ir_version >= release.MAX_IR_VERSION


def test_compose_and_the_image_are_of_the_containers_release():
    for path in (ROOT / "docker-compose.yml", ROOT / "deploy" / "Dockerfile"):
        named = {
            tag for match in IMAGE.finditer(path.read_text()) for tag in re.findall(r"\d\d\.\d\d", match[0])
        }
        assert named == {release.CONTAINER_RELEASE}, path


def test_the_dependencies_are_those_of_the_lock():
    assert f'"{SHARED["pip_triton"].value}"' in (ROOT / "pyproject.toml").read_text()
    assert SHARED["triton"].value == release.PIP.triton  # told twice: for programs that read the pip's alone


def test_the_server_is_the_version_of_the_lock(server):
    with grpc.InferenceServerClient(server.grpc_url) as client:
        assert client.get_server_metadata().version == release.PIP.triton
