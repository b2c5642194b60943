"""What nvidia-smi says of this machine's GPUs, and whether this release runs on them.

Facts: nvidia-smi(1) (fields, "[N/A]", return values); Triton's release notes by way of release.json; for MIG
NVIDIA's MIG user guide, for WSL its CUDA on WSL user guide.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from .report import GREEN, RED, YELLOW, Check, Facts

__all__ = ["Gpu", "GpuSurvey", "gpu_checks", "gpu_usable", "survey_gpus"]

WSL_NVIDIA_SMI = "/usr/lib/wsl/lib/nvidia-smi"  # not on the PATH of every WSL distribution
FIELDS = (
    "index",
    "uuid",
    "name",
    "driver_version",
    "memory.total",
    "memory.used",
    "compute_cap",  # not before driver branch R510
    "mig.mode.current",
)
FOR_CUDA_12 = "pip install 'onnxruntime-gpu[cuda,cudnn]<1.27'"
TIMEOUT_S = 60.0  # a GPU without persistence mode takes seconds to wake, a broken one never answers
UNKNOWN_FIELD = re.compile(r'Field "([^"]+)" is not a valid field to query')
# What nvidia-smi prints when it cannot answer, and what mends it.
FAILURES = (
    ("No devices were found", "check that the GPU is seated and powered: `lspci | grep -i nvidia`"),
    (
        "couldn't communicate with the NVIDIA driver",
        "the driver's kernel module is not loaded: install the driver for this kernel and reboot, then see "
        "`dmesg | grep -i nvrm`",
    ),
    ("Driver/library version mismatch", "the driver was updated but not reloaded: reboot"),
    ("couldn't find libnvidia-ml.so", "install the driver again; in a container, start it with the GPUs"),
    (
        "GPU access blocked by the operating system",
        "in WSL: update Windows' NVIDIA driver and run `wsl --update`; no Linux driver belongs into WSL",
    ),
    ("GPU is lost", "reboot; if it comes back, check power and cooling"),
    (
        "Failed to initialize NVML",
        "a container can lose its devices: `docker compose up --force-recreate`; on the host reboot",
    ),
)


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi lists it; None where it gives no value.

    driver: version, "560.35.03"; compute_capability: (major, minor); memory in MiB.
    mig: is MIG mode on; mig_devices: names of its instances, "3g.20gb". With MIG, CUDA sees these only.
    """

    index: int
    uuid: str
    name: str
    driver: str
    memory_mib: int | None
    memory_used_mib: int | None
    compute_capability: tuple[int, int] | None
    mig: bool | None
    mig_devices: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether CUDA sees it: with MIG on it needs an instance."""
        return not self.mig or bool(self.mig_devices)


@dataclass(frozen=True)
class GpuSurvey:
    """problem and remedy: why there is no list, and what to do; "" where nvidia-smi answered."""

    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    remedy: str = ""


def survey_gpus() -> GpuSurvey:
    """Ask nvidia-smi, without the fields that it does not know."""
    binary = shutil.which("nvidia-smi") or shutil.which(WSL_NVIDIA_SMI)
    if binary is None:
        present = os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/nvidiactl")
        if present:
            return GpuSurvey((), "the driver is loaded, but nvidia-smi is missing", "install nvidia-utils")
        return GpuSurvey((), "no GPU: nvidia-smi is not installed", "")
    fields = list(FIELDS)
    while True:
        status, text = _run(binary, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits")
        unknown = UNKNOWN_FIELD.search(text)
        if not unknown or unknown[1] not in fields:
            break
        fields.remove(unknown[1])
    gpus = parse_gpus(text, fields) if status == 0 else []
    if not gpus:
        return GpuSurvey((), *_diagnosis(status, text))
    instances = parse_mig_devices(_run(binary, "-L")[1]) if any(gpu.mig for gpu in gpus) else {}
    return GpuSurvey(tuple(_with_mig(gpu, instances.get(gpu.uuid, ())) for gpu in gpus))


def _run(*command: str) -> tuple[int | None, str]:
    """Status (None: no answer) and what was printed, errors included: nvidia-smi reports on both streams."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"nvidia-smi did not answer within {TIMEOUT_S:g} s"
    except OSError as error:
        return None, str(error)
    return done.returncode, done.stdout + done.stderr


def parse_gpus(text: str, fields: list[str]) -> list[Gpu]:
    """The GPUs of `--format=csv,noheader,nounits`; lines of another shape (warnings) are passed over."""
    gpus = []
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) != len(fields) or not values[0].isdecimal():
            continue
        # "[N/A]", "[Not Supported]", "[Unknown Error]", "[Insufficient Permissions]", "N/A"
        row = {
            field: "" if value.startswith("[") or value == "N/A" else value
            for field, value in zip(fields, values, strict=True)
        }
        capability = re.fullmatch(r"(\d+)\.(\d+)", row.get("compute_cap", ""))
        mig = row.get("mig.mode.current", "")
        gpus.append(
            Gpu(
                int(row["index"]),
                row["uuid"],
                row["name"] or "unnamed GPU",
                row["driver_version"],
                _whole(row["memory.total"]),
                _whole(row["memory.used"]),
                (int(capability[1]), int(capability[2])) if capability else None,
                mig == "Enabled" if mig else None,
            )
        )
    return gpus


def parse_mig_devices(text: str) -> dict[str, tuple[str, ...]]:
    """MIG instances by the UUID of their GPU, from `nvidia-smi -L`."""
    devices: dict[str, list[str]] = {}
    for line in text.splitlines():
        if gpu := re.match(r"GPU \d+: .*\(UUID: ([^)]+)\)", line):
            current = devices.setdefault(gpu[1], [])
        elif mig := re.match(r"\s+MIG (\S+)\s+Device\s+\d+:", line):
            current.append(mig[1])
    return {uuid: tuple(names) for uuid, names in devices.items()}


def _with_mig(gpu: Gpu, devices: tuple[str, ...]) -> Gpu:
    return Gpu(**{**vars(gpu), "mig_devices": devices})


def _whole(text: str) -> int | None:
    return int(float(text)) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _diagnosis(status: int | None, text: str) -> tuple[str, str]:
    said = " ".join(text.split())
    for sign, remedy in FAILURES:
        if sign in said:
            return f"nvidia-smi: {said}", remedy
    said = said or f"status {status} and no output"
    return f"nvidia-smi answers nothing that is known here: {said[:300]}", "run `nvidia-smi`, and fix it"


def gpu_checks(
    survey: GpuSurvey, facts: Facts, require_gpu: bool, cuda_major: int | None = None
) -> list[Check]:
    """The driver, then each GPU. No GPU is yellow, or red with `require_gpu`.

    facts: release.json. cuda_major: of the CUDA that the installed onnxruntime-gpu is built for.
    """
    missing = RED if require_gpu else YELLOW
    if not survey.gpus:
        if os.environ.get("NVIDIA_VISIBLE_DEVICES") == "void" and not require_gpu:
            return [Check("GPU", GREEN, "none, as NVIDIA_VISIBLE_DEVICES=void asks (profile cpu)")]
        install = (
            f"models run on the CPU; for a GPU install NVIDIA's driver {facts['driver']['value']} or newer"
        )
        level = RED if survey.remedy else missing
        return [Check("GPU", level, survey.problem, survey.remedy or install)]
    checks = [_driver_check(survey.gpus, facts, cuda_major), *(_gpu_check(gpu, facts) for gpu in survey.gpus)]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and (not hidden or hidden.startswith("-1")):
        found = f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU"
        checks.append(Check("GPU", missing, found, "unset CUDA_VISIBLE_DEVICES"))
    return checks


def gpu_usable(checks: list[Check]) -> bool:
    """From the answer of `gpu_checks`: will CUDA find a GPU that this release runs on?"""
    cards = [check for check in checks if re.fullmatch(r"GPU \d+", check.name)]
    others = [check for check in checks if check not in cards]
    return any(card.level != RED for card in cards) and all(
        check.name == "driver" and check.level != RED for check in others
    )


def _driver_check(gpus: tuple[Gpu, ...], facts: Facts, cuda_major: int | None) -> Check:
    name, driver, needed = "driver", gpus[0].driver, facts["driver"]["value"]
    for_cuda_13 = facts["driver_of_cuda_13"]["value"]
    if not driver:
        return Check(
            name, YELLOW, "version unknown", f"this release needs {needed} or newer; see `nvidia-smi`"
        )
    if _version(driver) >= _version(needed):
        found = f"{driver}; this release needs {needed} or newer"
        if cuda_major is None or cuda_major < 13:
            return Check(name, GREEN, found)
        found += f", the installed onnxruntime-gpu {for_cuda_13}: it is built for CUDA {cuda_major}"
        remedy = f"install driver {for_cuda_13} or newer, or an onnxruntime-gpu for CUDA 12: {FOR_CUDA_12}"
        enough = _version(driver) >= _version(for_cuda_13)
        return Check(name, GREEN, found) if enough else Check(name, YELLOW, found, remedy)
    if facts["cuda"]["value"].startswith("13.") and _version(driver) >= _version(for_cuda_13):
        found = f"{driver} is older than {needed}; CUDA 13 takes {for_cuda_13}, without what came since"
        return Check(name, YELLOW, found, f"install driver {needed} or newer where something is missing")
    older = [_version(version) for version in facts["driver_of_data_center_gpus"]["value"]]
    version = _version(driver)
    fits = version > max(older) or any(o[0] == version[0] and o <= version for o in older)
    consumer = next((gpu.name for gpu in gpus if re.search(r"GeForce|TITAN", gpu.name, re.I)), None)
    found = f"{driver} is older than {needed}"
    update = f"install driver {needed} or newer; docs/how-to/deploy.md#older-drivers"
    if not fits:
        return Check(name, RED, f"{found}, and of no branch that data center GPUs may use instead", update)
    if consumer:
        return Check(name, RED, f"{found}, which is enough for data center GPUs, not for {consumer}", update)
    return Check(name, YELLOW, f"{found}, which is enough for data center GPUs only", update)


def _gpu_check(gpu: Gpu, facts: Facts) -> Check:
    name, capability = f"GPU {gpu.index}", gpu.compute_capability
    least, least_plans = (facts[f]["value"] for f in ("compute_capability", "tensorrt_compute_capability"))
    memory = f"{gpu.memory_mib:,} MiB" if gpu.memory_mib else "memory unknown"
    if gpu.memory_mib and gpu.memory_used_mib is not None:
        memory += f", {gpu.memory_mib - gpu.memory_used_mib:,} free"
    found = f"{gpu.name}, {memory}"
    if gpu.mig_devices:
        found += f", MIG: {', '.join(gpu.mig_devices)} (a process uses one, CUDA_VISIBLE_DEVICES says which)"
    if not gpu.usable:
        remedy = (
            f"`sudo nvidia-smi mig -i {gpu.index} -cgi 0 -C`, or off: `sudo nvidia-smi -i {gpu.index} -mig 0`"
        )
        return Check(name, RED, f"{found}, MIG is on without an instance, so CUDA sees no device", remedy)
    if capability is None:
        remedy = f"look it up: at least {least} is needed, for TensorRT {least_plans}"
        return Check(name, YELLOW, f"{found}, compute capability unknown", remedy)
    found += f", compute capability {capability[0]}.{capability[1]}"
    if capability < _version(least):
        return Check(name, RED, found, f"this release needs {least} or higher: use another GPU")
    most, of = facts["highest_compute_capability"]["value"], facts["release"]["value"]
    if capability > _version(most):
        found += f": newer than release {of}, which goes up to {most}, knows"
        remedy = f"its plans and kernels may not run; serve with {facts['newest_image']['value']}"
        return Check(name, YELLOW, found, remedy)
    if capability < _version(least_plans):
        remedy = "serve ONNX models with CUDA, without plans and without the TensorRT accelerator"
        return Check(name, YELLOW, f"{found}; TensorRT needs {least_plans}", remedy)
    return Check(name, GREEN, found)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))
