"""Two host policies for CPU instances: the lower and the upper half of the cores.

An instance group with `host_policy: "lower_cores"` runs there only. Two busy instances that the system's
scheduler may place freely meet on one core now and then, while another core idles (docs/decisions/0005).

With a policy that names cores tritonserver calls set_mempolicy for each instance. Where that is forbidden, as
in a container under Docker's default seccomp profile without CAP_SYS_NICE, the models do not load, and the
failed load can end tritonserver; so the policies are left out there.
"""

import ctypes
import errno
import os
import platform
from collections.abc import Collection

__all__ = ["HOST_POLICIES", "host_policy_arguments", "why_no_policies"]

HOST_POLICIES = ("lower_cores", "upper_cores")
SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}  # the number of the system call
NO_SUCH_MODE = 0xFFFF  # so that the kernel, if it gets to look, says EINVAL and changes nothing


def host_policy_arguments(cores: Collection[int] | None = None) -> list[str]:
    """tritonserver's arguments that define both policies, over `cores` (default: those we may run on).

    tritonserver takes ranges only. Where a half is not a range, as in some containers, and where there is but
    one core, neither policy is defined; tritonserver ignores the name of one that is not.
    """
    cores = sorted(os.sched_getaffinity(0) if cores is None else cores)
    half = len(cores) // 2
    halves = (cores[:half], cores[half:])
    if not all(part and part[-1] - part[0] == len(part) - 1 for part in halves) or why_no_policies():
        return []
    return [
        f"--host-policy={name},cpu-cores={part[0]}-{part[-1]}"
        for name, part in zip(HOST_POLICIES, halves, strict=True)
    ]


def why_no_policies() -> str:
    """Why tritonserver could not follow a policy here; "" if it can."""
    number = SET_MEMPOLICY.get(platform.machine())
    if number is None:
        return f"set_mempolicy is not known for {platform.machine()}"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_ulong]
    libc.syscall.restype = ctypes.c_long
    if libc.syscall(number, NO_SUCH_MODE, None, 0) == 0 or ctypes.get_errno() == errno.EINVAL:
        return ""
    return f"set_mempolicy is refused ({os.strerror(ctypes.get_errno())})"
