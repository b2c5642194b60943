"""The machine: what a measurement is taken on, and what programs take of it meanwhile.

Processes are read from /proc (proc(5)), GPUs as Triton's metrics tell them.
"""

import contextlib
import functools
import importlib.metadata
import os
import platform
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from server.operations.doctor.gpu import survey_gpus

__all__ = [
    "children",
    "cpu_seconds",
    "cpu_seconds_by_program",
    "describe",
    "gpu_metrics",
    "others_cpu_seconds",
    "private_bytes_by_program",
    "processes",
    "read_gpu_metrics",
]

PACKAGES = ("nvidia-pytriton", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "tritonclient")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Names and units: Triton's documentation, user guide, "Metrics", GPU Metrics.
GPU_METRIC = re.compile(r'^(nv_gpu_\w+|nv_energy_consumption)\{gpu_uuid="([^"]+)"\} (\S+)$', re.MULTILINE)


def describe() -> dict[str, str]:
    """Names to values, for people to read beside the figures; what is not there is left out."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory_gib": f"{memory:.0f}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **_gpus(),
        **_versions(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    """Of the packages that decide figures, as far as they are installed."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


@functools.cache
def _gpus() -> dict[str, str]:
    """Each kind of GPU with how many there are, "2 x NVIDIA L4", and the driver."""
    gpus = survey_gpus().gpus
    counts = Counter(gpu.name for gpu in gpus)
    kinds = ", ".join(f"{count} x {name}" for name, count in counts.items())
    told = {"gpu": kinds, "gpu_driver": gpus[0].driver if gpus else ""}
    return {name: value for name, value in told.items() if value}


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def children(pid: int) -> Iterator[int]:
    """Process ids. What has ended has none."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found = (task / "children").read_text()
        except OSError:  # ended while we looked
            continue
        yield from map(int, found.split())


def processes(root_pid: int) -> Iterator[Path]:
    """Folders in /proc of a process and everything below it, parents first."""
    pending = [root_pid]
    while pending:
        pid = pending.pop()
        yield Path(f"/proc/{pid}")
        pending += children(pid)


def cpu_seconds(pid: int) -> float:
    """User and system seconds that one process has used so far. Raises `OSError` where there is none."""
    return sum(_ticks(Path(f"/proc/{pid}"))[:2]) / TICKS_PER_SECOND


def cpu_seconds_by_program(root_pid: int) -> dict[str, float]:
    """User and system seconds used so far by `root_pid` and its descendants, summed by program name."""
    seconds: dict[str, float] = {}
    for process in processes(root_pid):
        try:
            program = _program(process)
            used = sum(_ticks(process)[:2]) / TICKS_PER_SECOND
        except OSError:  # ended while we looked
            continue
        seconds[program] = seconds.get(program, 0.0) + used
    return seconds


def private_bytes_by_program(root_pid: int) -> dict[str, int]:
    """Memory that no other process shares (RssAnon) of all below `root_pid`, by program name."""
    found: dict[str, int] = {}
    for process in processes(root_pid):
        try:
            program = _program(process)
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        except OSError:  # ended while we looked
            continue
        if int(process.name) != root_pid and "RssAnon" in status:
            found[program] = found.get(program, 0) + int(status["RssAnon"].split()[0]) * 1024
    return found


def others_cpu_seconds() -> float:
    """Seconds that all processors of this machine were busy with what is not below this process.

    What a hypervisor took away (steal) counts, too. Only differences mean something. Children that a process
    has seen end count as its own: the processes of a model that was just unloaded are no other programs.
    """
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    ours = 0
    for process in processes(os.getpid()):
        try:
            ours += sum(_ticks(process))
        except OSError:  # ended while we looked
            continue
    return (user + nice + system + irq + softirq + steal - ours) / TICKS_PER_SECOND


def _program(process: Path) -> str:
    return Path((process / "cmdline").read_bytes().split(b"\0")[0].decode()).name


def _ticks(process: Path) -> list[int]:
    """utime and stime, then the same of children that it has seen end."""
    return list(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:15]))


def read_gpu_metrics(metrics_url: str, timeout_s: float = 10) -> dict[str, dict[str, float]]:
    """`gpu_metrics` of a running server. Raises `OSError` where nothing answers."""
    with urllib.request.urlopen(metrics_url, timeout=timeout_s) as answer:
        return gpu_metrics(answer.read().decode())


def gpu_metrics(text: str) -> dict[str, dict[str, float]]:
    """Values by GPU (its UUID) and metric, out of Prometheus' text format; {} where there is no GPU.

    nv_gpu_utilization is a share of 1 over the server's last `--metrics-interval-ms`, nv_gpu_memory_* are
    bytes, nv_gpu_power_* watts, and nv_energy_consumption joules since the server started.
    """
    found: dict[str, dict[str, float]] = {}
    for name, uuid, value in GPU_METRIC.findall(text):
        found.setdefault(uuid, {})[name] = float(value)
    return found
