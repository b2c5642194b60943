"""What a measurement was taken on: processor, cores and memory, GPUs, and the versions that matter."""

import functools
import importlib.metadata
import os
import platform
from collections import Counter
from pathlib import Path

from server.doctor.gpu import survey_gpus

__all__ = ["describe"]

PACKAGES = ("nvidia-pytriton", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "tritonclient")


def describe() -> dict[str, str]:
    """Names to values, for people to read beside the figures; what is not there is left out."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory_gib": f"{memory:.0f}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **_gpus(),
        **versions,
    }


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
