"""What a measurement was taken on: the processor, its cores and memory, and the versions that matter."""

import importlib.metadata
import os
import platform
from pathlib import Path

__all__ = ["describe"]

PACKAGES = ("nvidia-pytriton", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "tritonclient")


def describe() -> dict[str, str]:
    """Names to values, for people to read beside the figures; a package that is not there is left out."""
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
        **versions,
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
