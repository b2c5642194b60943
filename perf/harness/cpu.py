"""CPU time of a process and everything below it, read from /proc."""

import os
from pathlib import Path

__all__ = ["cpu_seconds_by_program"]

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds_by_program(root_pid: int) -> dict[str, float]:
    """User and system seconds used so far by `root_pid` and its descendants, summed by program name."""
    seconds: dict[str, float] = {}
    pending = [root_pid]
    while pending:
        process = Path("/proc") / str(pending.pop())
        try:
            program = Path((process / "cmdline").read_bytes().split(b"\0")[0].decode()).name
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            for task in (process / "task").iterdir():
                pending += map(int, (task / "children").read_text().split())
        except OSError:  # ended while we looked
            continue
        used = (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND  # utime and stime, proc(5)
        seconds[program] = seconds.get(program, 0.0) + used
    return seconds
