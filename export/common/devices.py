"""GPUs by compute capability: a plan runs on the one that it was built for, and on no other."""

import re
import subprocess

from export.common.errors import PlanError
from export.common.release import CONTAINER, RELEASES, Release

__all__ = ["DEVICES", "capability_here", "capability_of"]

# NVIDIA's table, https://developer.nvidia.com/cuda-gpus: 8.6 to 12.1 were read there in 2026, 7.5 and 8.0 in
# copies of it as it was in 2022.
DEVICES = {
    "t4": "7.5",
    "a30": "8.0",
    "a100": "8.0",
    "a10": "8.6",
    "a40": "8.6",
    "rtx3090": "8.6",
    "l4": "8.9",
    "l40s": "8.9",
    "rtx4090": "8.9",
    "h100": "9.0",
    "h200": "9.0",
    "b200": "10.0",
    "gb200": "10.0",
    "b300": "10.3",
    "gb300": "10.3",
    "rtx5090": "12.0",
    "rtx-pro-6000": "12.0",  # "RTX PRO 6000 Blackwell", of servers and workstations
    "gb10": "12.1",  # DGX Spark
}

QUERY = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]


def capability_of(device: str, release: Release = CONTAINER) -> str:
    """The compute capability of a name in `DEVICES`, or of a number such as "8.9".

    Raises `PlanError` for another name, and for a GPU that TensorRT of `release` does not build for.
    """
    capability = DEVICES.get(device.lower(), device)
    if not re.fullmatch(r"\d+\.\d", capability):
        raise PlanError(
            f"no device profile {device!r}; there are {', '.join(DEVICES)}, or give a compute capability "
            f"such as 8.9 (`{' '.join(QUERY)}` says which a GPU has)"
        )
    if not _builds_for(capability, release):
        others = [other.name for other in RELEASES.values() if _builds_for(capability, other)]
        lowest, highest = _limits(release)
        raise PlanError(
            f"compute capability {capability}: TensorRT {release.tensorrt} of Triton "
            f"{release.name} builds for {lowest} to {highest}; serve the ONNX there"
            + (f", or build for a release that does: --release {' or '.join(others)}" if others else "")
        )
    return capability


def capability_here() -> str | None:
    """The compute capability of this machine's first GPU, or None if there is none that can be used."""
    try:
        run = subprocess.run(QUERY, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.findall(r"^\s*(\d+\.\d)\s*$", run.stdout, re.MULTILINE)
    return found[0] if run.returncode == 0 and found else None


def _builds_for(capability: str, release: Release) -> bool:
    lowest, highest = map(_number, _limits(release))
    return lowest <= _number(capability) <= highest


def _limits(release: Release) -> tuple[str, str]:
    facts = release.facts
    return facts["tensorrt_compute_capability"].value, facts["highest_compute_capability"].value


def _number(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))
