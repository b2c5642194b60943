"""Processes of servers: what is left of them, what they may do, and waiting for what they do."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path


def descendants(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends meanwhile
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def told_of(pid, what):
    """What /proc has of it, as "cmdline"; nothing once it has ended, as planners do at any time."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/{what}").read_bytes()
    return b""


def command_line(pid):
    return told_of(pid, "cmdline")


def without_planner(pids):
    """Of these, those that serve: the ONNX Runtime backend's planner comes and goes as models are loaded."""
    lines = {pid: command_line(pid) for pid in alive(pids)}
    return [pid for pid, line in lines.items() if line and b"/planner.py" not in line]  # empty: it is ending


def segments(launcher_pid):
    """Shared memory of the servers that this process started; others may run beside us."""
    return sorted(
        name for name in os.listdir("/dev/shm") if name.startswith(f"triton-vision-{launcher_pid}-")
    )


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def state(pid):
    """As ps shows it: Z for a zombie, T for a stopped one; "" where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while its file is read
        return ""


def begun(pid):
    """When it was started, in clock ticks since the machine was: starttime of proc(5); 0 once it ended."""
    fields = told_of(pid, "stat").rpartition(b")")[2].split()  # from the third
    return int(fields[19]) if fields else 0


def halt(pid):
    """Stop it by SIGSTOP; it does not stand yet when `kill` returns, and may answer meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state(pid) in ("T", "Z", ""))


def alive(pids):
    return [pid for pid in pids if state(pid) not in ("", "Z")]


def wait_until(condition, timeout_s=600):
    """`timeout_s`: so long that only what never comes takes longer, however busy the machine is."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.05)


def wait_for_line(log, *words):
    """Until one line of tritonserver's log holds them all: it is copied there a little after the event."""
    wait_until(lambda: any(all(word in line for word in words) for line in log.read_text().splitlines()))


def unprivileged():
    """A prefix that takes what a service of docker-compose.yml lacks: every capability, the way to new ones.

    Root is then refused by file modes as user 1000 is in its container.
    """
    if shutil.which("setpriv") is None:
        return []
    drop = ["--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return ["setpriv", "--no-new-privs", *drop]
