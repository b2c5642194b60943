"""Run tritonserver as a child, and leave nothing of it behind when the caller is gone.

    python guard.py CONTROL_FD SHM_PREFIX RUN_FOLDER GRACE_S COMMAND...

The caller holds the other end of the pipe CONTROL_FD. When that closes, because the caller closed it or was
killed, tritonserver is asked to stop (SIGTERM: it drains requests in flight), and killed after GRACE_S
seconds. Afterwards every process that descends from it is killed, and its shared memory segments
(/dev/shm/SHM_PREFIX*) and RUN_FOLDER are removed. Exits with tritonserver's exit status.

A process of its own, because a process that is killed with SIGKILL cannot clean up after itself. Only the
standard library, and one thread: PR_SET_PDEATHSIG follows the thread that forked.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36

libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    control, shm_prefix, run_folder, grace_s = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # stubs that lose their parent become our children
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)  # signals become readable bytes, so one select() sees everything
    stop_signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in (*stop_signals, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)

    server = subprocess.Popen(
        sys.argv[5:],
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
    )
    deadline = None
    while server.poll() is None:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        watched = [wake_read] if deadline is not None else [wake_read, control]
        readable, _, _ = select.select(watched, [], [], timeout)
        woken_by = os.read(wake_read, 64) if wake_read in readable else b""
        if deadline is None and (control in readable or set(woken_by) & set(stop_signals)):
            server.terminate()
            deadline = time.monotonic() + grace_s
        elif deadline is not None and time.monotonic() >= deadline:
            server.kill()
    kill_descendants()
    for segment in Path("/dev/shm").glob(f"{shm_prefix}*"):
        segment.unlink(missing_ok=True)
    shutil.rmtree(run_folder, ignore_errors=True)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def kill_descendants() -> None:
    """Kill what is left below us until nothing is: as a subreaper we inherit every orphan."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            pids = [int(pid) for pid in children.read().split()]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main())
