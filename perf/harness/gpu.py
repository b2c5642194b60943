"""What Triton's metrics endpoint says of the GPUs: nothing where there is none."""

import re
import urllib.request

__all__ = ["gpu_metrics", "read_gpu_metrics"]

# Names and units: Triton's documentation, user guide, "Metrics", GPU Metrics.
LINE = re.compile(r'^(nv_gpu_\w+|nv_energy_consumption)\{gpu_uuid="([^"]+)"\} (\S+)$', re.MULTILINE)


def read_gpu_metrics(metrics_url: str, timeout_s: float = 10) -> dict[str, dict[str, float]]:
    """`gpu_metrics` of a running server. Raises `OSError` where nothing answers."""
    with urllib.request.urlopen(metrics_url, timeout=timeout_s) as answer:
        return gpu_metrics(answer.read().decode())


def gpu_metrics(text: str) -> dict[str, dict[str, float]]:
    """Values by GPU (its UUID) and metric, out of Prometheus' text format.

    nv_gpu_utilization is a share of 1 over the server's last `--metrics-interval-ms`, nv_gpu_memory_* are
    bytes, nv_gpu_power_* watts, and nv_energy_consumption joules since the server started.
    """
    found: dict[str, dict[str, float]] = {}
    for name, uuid, value in LINE.findall(text):
        found.setdefault(uuid, {})[name] = float(value)
    return found
