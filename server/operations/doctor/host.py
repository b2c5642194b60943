"""What this machine has besides GPUs: Python, tritonserver, ONNX Runtime, shared memory, ports, Docker."""

import http.client
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ...environment import native
from ...environment.host_policies import HOST_POLICIES, host_policy_arguments, why_no_policies
from ...environment.installation import OUR_BACKENDS, Installation, find_installation
from ...environment.place import INSTALL, reinstall
from ...environment.ports import port_is_free
from ...environment.repository import python_model_count, servable_models
from ...errors import InstallationError, RepositoryError, SharedMemoryError
from ...running.process import check_shared_memory
from ...tfserving.options import GRPC_PORT, REST_PORT, missing_packages, remedy
from .report import GREEN, RED, YELLOW, Check, Facts

__all__ = [
    "container_check",
    "cuda_of_onnxruntime",
    "host_policy_check",
    "installation_checks",
    "native_check",
    "port_checks",
    "provider_checks",
    "shared_memory_check",
    "system_check",
    "tfserving_check",
]

PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002, "status": 8003}
COMPOSE = (2, 20, 2)  # the first with depends_on.required
ROOMY_SHM_BYTES = 2**30
COMMAND_TIMEOUT_S = 30.0
PROVIDERS = {  # asked for only where the installed onnxruntime has them
    "CUDAExecutionProvider": "CUDA",
    "TensorrtExecutionProvider": "TensorRT",
    "OpenVINOExecutionProvider": "OpenVINO",
    "CPUExecutionProvider": "CPU",
}
ANSI_COLOUR = re.compile(r"\x1b\[[\d;]*m")  # ONNX Runtime colours its log, terminal or not
# One Add node over FLOAT [1], opset 13, IR version 7: any onnxruntime loads it.
TINY_GRAPH = b"CAcSADo1Cg4KAXgKAXgSAXkiA0FkZBIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0="
# Listing a provider proves nothing: where its libraries do not load, ONNX Runtime takes the CPU silently.
TRY_PROVIDER = """
import base64, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(base64.b64decode(sys.argv[2]), providers=[sys.argv[1]])
session.run(None, {"x": numpy.ones(1, numpy.float32)})
sys.exit(0 if session.get_providers()[0] == sys.argv[1] else 3)
"""


def system_check() -> Check:
    """Red for anything but Linux on x86-64, which pip Triton is for."""
    machine, release = platform.machine(), platform.release()
    where = ", WSL" if "microsoft" in release.lower() else ""
    cores = os.cpu_count()
    where += ", in a container" if in_container() else ""
    found = f"{platform.system()} {release} {machine}{where}, {cores} core{'' if cores == 1 else 's'}"
    if platform.system() != "Linux" or machine != "x86_64":
        remedy = "pip Triton is for Linux x86-64; use the container image elsewhere"
        return Check("system", RED, found, remedy)
    return Check("system", GREEN, found)


def in_container() -> bool:
    """By the files that Docker and Podman leave in theirs."""
    return any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))


def installation_checks(facts: Facts) -> tuple[Installation | None, list[Check]]:
    """Python, numpy, libpython and tritonserver; the installation, None where there is none."""
    python, numpy = platform.python_version(), version_of("numpy")
    try:
        installation = find_installation()
    except InstallationError as error:
        found, _, remedy = str(error).rpartition("; ")
        return None, [
            Check("Python", GREEN, f"{python}, numpy {numpy or 'missing'}"),
            Check("tritonserver", RED, found or str(error), remedy),
        ]
    checks = [_python_check(installation, python, numpy, facts)]
    checks.append(_tritonserver_check(installation, facts))
    return installation, checks


def _python_check(installation: Installation, python: str, numpy: str | None, facts: Facts) -> Check:
    found = f"{python}, numpy {numpy or 'missing'}"
    if installation.kind == "pip":  # find_installation() has refused what does not fit
        return Check("Python", GREEN, f"{found}, libpython found")
    if numpy is None or int(numpy.split(".")[0]) >= 2:
        remedy = "pip3 install 'numpy<2' pillow, as deploy/Dockerfile does"
        return Check("Python", RED, f"{found}: the Python backend needs numpy 1.26", remedy)
    if version_of("pillow") is None:
        remedy = "docker compose build: deploy/Dockerfile installs Pillow"
        return Check("Python", RED, f"{found}, no Pillow: image_decoder needs it", remedy)
    if python.split(".")[:2] != facts["python"]["value"].split(".")[:2]:
        remedy = f"the image's Python is {facts['python']['value']}; its stub loads no packages of another"
        return Check("Python", YELLOW, found, remedy)
    return Check("Python", GREEN, f"{found}, Pillow {version_of('pillow')}")


def _tritonserver_check(installation: Installation, facts: Facts) -> Check:
    text = run_briefly(str(installation.binary), "--help", environment=installation.environment)[1]
    if "Usage" not in text:
        remedy = f"`ldd {installation.binary}` names missing libraries; {reinstall()}"
        return Check("tritonserver", RED, f"{installation.binary} does not start: {_last(text)}", remedy)
    if installation.kind == "container":
        fact, version = "triton", os.environ.get("TRITON_SERVER_VERSION", "unknown")  # set by NVIDIA's image
    else:
        fact, version = "pip_triton", f"nvidia-pytriton=={version_of('nvidia-pytriton')}"
    locked, found = facts[fact]["value"], f"{version} ({installation.kind})"
    if version != locked:
        image = facts["container_image"]["value"]
        remedy = f"`{INSTALL}`, or the image {image}: others may refuse graphs and plans"
        return Check("tritonserver", YELLOW, f"{found}, but release.json has {locked}", remedy)
    return Check("tritonserver", GREEN, f"{found}, Triton {facts['triton']['value']} as in release.json")


def provider_checks(installation: Installation | None, gpu: bool) -> tuple[list[Check], set[str]]:
    """Which backends and execution providers load; and the names "cuda", "tensorrt" of those that do."""
    if installation is None:
        return [], set()
    if installation.kind == "container":
        return _container_backends(installation)
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if version_of(name)]
    versions = " and ".join(f"{name} {version_of(name)}" for name in installed)
    if len(installed) == 2:
        remedy = f"{reinstall('gpu' if gpu else 'cpu')}: they overwrite each other's files"
        return [Check("ONNX Runtime", RED, f"{versions} are both installed", remedy)], set()
    status, text = run_briefly(
        sys.executable,
        "-c",
        "import onnxruntime as o; print(*o.get_available_providers())",
        environment=installation.environment,
    )
    failed = {name: why_not(name) for name in PROVIDERS if status == 0 and name in text.split()}
    loads = [name for name, reason in failed.items() if reason is None]
    if "CPUExecutionProvider" not in loads:
        found = f"{versions} does not work: {_last(text) if status else failed.get('CPUExecutionProvider')}"
        return [Check("ONNX Runtime", RED, found, reinstall())], set()
    found = f"{versions}; runs on {', '.join(PROVIDERS[name] for name in loads)}"
    if gpu and "CUDAExecutionProvider" not in failed:
        remedy = reinstall("gpu")
        checks = [Check("ONNX Runtime", YELLOW, f"{found}, so the GPU stays idle", remedy)]
    else:
        checks = [Check("ONNX Runtime", GREEN, found)]
    for name in (name for name in failed if name not in loads):
        level = RED if gpu and name == "CUDAExecutionProvider" else YELLOW
        found = f"does not load: {failed[name]}"
        checks.append(Check(PROVIDERS[name], level, found, _provider_remedy(name, gpu)))
    checks.append(native_check())
    return checks, {name.removesuffix("ExecutionProvider").lower() for name in loads}


def native_check() -> Check:
    """Whether plain ONNX models can run inside tritonserver, which takes a C compiler."""
    if os.environ.get(native.NATIVE_VARIABLE) == "0":
        return Check(
            "Native half",
            YELLOW,
            f"switched off by {native.NATIVE_VARIABLE}=0",
            f"unset {native.NATIVE_VARIABLE}",
        )
    with tempfile.TemporaryDirectory() as scratch:
        problem = native.build(OUR_BACKENDS / "onnxruntime" / "native", Path(scratch) / native.LIBRARY)
    if problem:
        return Check("Native half", YELLOW, problem, native.COMPILER_ADVICE)
    return Check(
        "Native half", GREEN, f"built by {' '.join(native.compiler() or [])}: plain ONNX models use it"
    )


def _provider_remedy(name: str, gpu: bool) -> str:
    if not gpu:
        return "models run on the CPU; onnxruntime-gpu needs a GPU and its driver"
    if name == "TensorrtExecutionProvider":
        return "pip install 'tensorrt>=10,<11', its libraries on LD_LIBRARY_PATH; or serve in the container"
    return "install the CUDA and cuDNN that it was built for: pip install 'onnxruntime-gpu[cuda,cudnn]'"


def cuda_of_onnxruntime() -> int | None:
    """The major version of CUDA that the installed onnxruntime-gpu is built for; None if it says none."""
    try:
        package = importlib.metadata.distribution("onnxruntime-gpu")
        told = Path(str(package.locate_file("onnxruntime/capi/build_and_package_info.py"))).read_text()
    except (importlib.metadata.PackageNotFoundError, OSError):
        return None
    found = re.search(r"^cuda_version = '(\d+)", told, re.MULTILINE)
    return int(found[1]) if found else None


def why_not(provider: str) -> str | None:
    """None if ONNX Runtime runs a graph on `provider`, else what it says."""
    status, text = run_briefly(sys.executable, "-c", TRY_PROVIDER, provider, TINY_GRAPH.decode())
    if status == 0:
        return None
    text = ANSI_COLOUR.sub("", text)
    library = re.search(r"\S+\.so[.\d]*: cannot open shared object file", text)
    needs = re.search(r"Require .*?\d\.\*\. ", text)  # "Require cuDNN 9.* and CUDA 13.*. "
    told = [match[0].strip() for match in (library, needs) if match]
    return "; ".join(told) or _last(text)[:200] or f"it ended with status {status}"


def _container_backends(installation: Installation) -> tuple[list[Check], set[str]]:
    backends = installation.binary.resolve().parent.parent / "backends"
    names = sorted(path.parent.name for path in backends.glob("*/libtriton_*.so"))
    libraries = {path.name for path in (backends / "onnxruntime").glob("libonnxruntime_providers_*.so")}
    providers = {name for name in ("cuda", "tensorrt") if f"libonnxruntime_providers_{name}.so" in libraries}
    accelerated = ", ".join(sorted(providers)) or "the CPU only"
    found = f"{', '.join(names) or 'none'}; ONNX Runtime with {accelerated} (files seen, not run)"
    missing = {"onnxruntime", "python"} - set(names)
    if missing:
        remedy = "use NVIDIA's -py3 image, see deploy/Dockerfile"
        return [Check("backends", RED, f"{found}; missing: {', '.join(sorted(missing))}", remedy)], providers
    return [Check("backends", GREEN, found)], providers


def shared_memory_check(repository: Path, in_image: bool) -> Check:
    """Red where /dev/shm cannot hold the Python models of `repository`, yellow below 1 GiB of free space.

    in_image: in a container of the server's own image; one that has been given 1 GiB may use half of it.
    """
    try:
        models = python_model_count(servable_models(repository))
    except RepositoryError:
        models = 1
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    locked = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit / 2**20:.0f} MiB"
    try:
        check_shared_memory(models)
    except SharedMemoryError as error:
        found, _, remedy = str(error).partition("; ")
        return Check("shared memory", RED, found, remedy)
    disk = shutil.disk_usage("/dev/shm")
    found = f"/dev/shm has {disk.free / 2**20:,.0f} MiB free; memlock {locked}"
    ours = in_image and disk.total >= ROOMY_SHM_BYTES  # what is used there, a running server uses
    if disk.free < (ROOMY_SHM_BYTES // 2 if ours else ROOMY_SHM_BYTES):
        remedy = "large batches may end in a bus error: `mount -o remount,size=1G /dev/shm`, `--shm-size=1g`"
        return Check("shared memory", YELLOW, found, remedy)
    return Check("shared memory", GREEN, found)


def host_policy_check() -> Check:
    """Whether instances can be kept on half of the cores each, as the models of this repository ask."""
    if why := why_no_policies():
        found = f"{why}: instances run on any core, a little slower under load"
        return Check(
            "host policies", YELLOW, found, "in Docker: `--cap-add SYS_NICE`, as docker-compose.yml has"
        )
    if not host_policy_arguments():
        return Check("host policies", GREEN, "none: the cores have no two halves that are ranges")
    return Check("host policies", GREEN, f"{' and '.join(HOST_POLICIES)}, half of the cores each")


def port_checks(in_image: bool) -> list[Check]:
    """Yellow where something listens on a default port of 127.0.0.1.

    in_image: in a container of the server's own image, where Triton may.
    """
    taken = [f"{port} ({name})" for name, port in PORTS.items() if not port_is_free("127.0.0.1", port)]
    if not taken:
        return [Check("ports", GREEN, f"{', '.join(map(str, PORTS.values()))} are free")]
    remedy = "stop what listens there (`ss -ltnp`), or choose others: --http-port, --grpc-port, ..."
    found = f"in use: {', '.join(taken)}" + (", by a Triton" if (triton := _triton_answers()) else "")
    if triton and in_image:  # the one that this container is for
        return [Check("ports", GREEN, found)]
    return [Check("ports", YELLOW, found, remedy)]


def tfserving_check() -> Check:
    """Could --tfserving be used? Yellow where something, maybe TensorFlow Serving, has its ports."""
    name, ports = "--tfserving", (GRPC_PORT, REST_PORT)
    if missing := missing_packages():
        return Check(name, GREEN, f"not installed ({', '.join(missing)}); whoever wants it: {remedy()}")
    if taken := [str(port) for port in ports if not port_is_free("127.0.0.1", port)]:
        advice = "choose others: --tfserving-grpc-port, --tfserving-rest-port"
        return Check(name, YELLOW, f"in use: {', '.join(taken)}, by TensorFlow Serving itself?", advice)
    return Check(name, GREEN, f"installed; {ports[0]} and {ports[1]} are free")


def _triton_answers() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", PORTS["http"], timeout=2)
    try:
        connection.request("GET", "/v2")
        return bool(json.loads(connection.getresponse().read()).get("name") == "triton")
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return False
    finally:
        connection.close()


def container_check(gpu: bool) -> Check:
    """Can this machine run docker-compose.yml, on its GPUs if it has some?"""
    name, without = "container runtime", "pip Triton needs none; for the container see docs/how-to/deploy.md"
    if in_container():
        return Check(name, GREEN, "this is a container itself")
    docker = shutil.which("docker")
    if docker is None:
        return Check(name, YELLOW, "no docker", without)
    status, engine = run_briefly(docker, "version", "--format", "{{.Server.Version}}")
    if status != 0:
        remedy = f"start it, or join the group docker (`sudo usermod -aG docker $USER`); {without}"
        found = f"docker is installed, its engine does not answer: {_last(engine)}"
        return Check(name, YELLOW, found, remedy)
    found, problems = f"docker {engine.strip()}", []
    status, compose = run_briefly(docker, "compose", "version", "--short")
    version = tuple(int(part) for part in re.findall(r"\d+", compose)[:3])
    if status != 0:
        problems.append(("no Compose plugin", "install docker-compose-plugin"))
    elif version < COMPOSE:
        needed = ".".join(map(str, COMPOSE))
        problems.append((f"Compose {compose.strip()} is older than {needed}", "update docker-compose-plugin"))
    else:
        found += f", Compose {compose.strip()}"
    if gpu:
        status, toolkit = run_briefly("nvidia-ctk", "--version")
        toolkit_version = re.search(r"\d+\.\d+\.\d+", toolkit)
        runtimes = run_briefly(docker, "info", "--format", "{{json .Runtimes}}")[1]
        if status != 0:
            problems.append(("no nvidia-container-toolkit", "install nvidia-container-toolkit"))
        elif '"nvidia"' not in runtimes:
            remedy = "`sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker`"
            problems.append(("docker does not know the nvidia runtime", remedy))
        else:
            found += f", nvidia-container-toolkit {toolkit_version[0] if toolkit_version else ''}".rstrip()
    if problems:
        facts, remedies = zip(*problems, strict=True)
        return Check(name, YELLOW, f"{found}; {'; '.join(facts)}", "; ".join(remedies))
    return Check(name, GREEN, found)


def version_of(distribution: str) -> str | None:
    """None if the package is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def run_briefly(*command: str, environment: dict[str, str] | None = None) -> tuple[int | None, str]:
    """Status and output of a command; None if it cannot be started or does not end."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    return done.returncode, done.stdout + done.stderr


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
