"""Two host policies for CPU instances: the lower and the upper half of the cores.

An instance group with `host_policy: "lower_cores"` runs there only. Two busy instances that the system's
scheduler may place freely meet on one core now and then, while another core idles (docs/decisions/0005).
"""

import os
from collections.abc import Collection

__all__ = ["HOST_POLICIES", "host_policy_arguments"]

HOST_POLICIES = ("lower_cores", "upper_cores")


def host_policy_arguments(cores: Collection[int] | None = None) -> list[str]:
    """tritonserver's arguments that define both policies, over `cores` (default: those we may run on).

    tritonserver takes ranges only. Where a half is no range, as in some containers, and where there is but
    one core, neither policy is defined; tritonserver ignores the name of one that is not.
    """
    cores = sorted(os.sched_getaffinity(0) if cores is None else cores)
    half = len(cores) // 2
    halves = (cores[:half], cores[half:])
    if not all(part and part[-1] - part[0] == len(part) - 1 for part in halves):
        return []
    return [
        f"--host-policy={name},cpu-cores={part[0]}-{part[-1]}"
        for name, part in zip(HOST_POLICIES, halves, strict=True)
    ]
