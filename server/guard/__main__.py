"""Run tritonserver as a child, and leave nothing of it behind when the caller is gone.

    python guard CONTROL_FD LOG_FD SHM_PREFIX RUN_FOLDER GRACE_S COMMAND...

The caller holds the other end of the pipe CONTROL_FD. When that closes, because the caller closed it or was
killed, or sent an S, tritonserver is asked to stop (SIGTERM: it drains requests in flight), and killed after
GRACE_S seconds, or at once on a K; meanwhile HTTP connections that are between two requests are closed.
Afterwards every process that descends from it is killed, and its shared memory segments
(/dev/shm/SHM_PREFIX*) and RUN_FOLDER are removed. Exits with tritonserver's exit status.

What tritonserver writes goes to our standard output and to LOG_FD. Further arguments for it, which no other
user may read, come in the environment variable TRITON_VISION_SECRET_ARGUMENTS, one per line.

A process of its own, because a process that is killed with SIGKILL cannot clean up after itself. Only the
standard library, and one thread: PR_SET_PDEATHSIG follows the thread that forked.
"""

import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import sys
import time
from pathlib import Path

from hidden_arguments import start
from idle_connections import close_idle
from log_pump import LogPump

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
LOOK_S = 0.5  # for idle connections, while it stops
QUIET_S = 3.0  # a stream of answers may pause for as long
LAST_WORDS_S = 2.0  # for what is still in the pipe when tritonserver has ended

HTTP_PORT = re.compile(r"--(?:http|metrics)-port=(\d+)")

libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Returns tritonserver's exit status: 128 and the signal if one ended it."""
    control, log, shm_prefix, run_folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    grace_s, command = float(sys.argv[5]), sys.argv[6:]
    secret = os.environ.pop("TRITON_VISION_SECRET_ARGUMENTS", "").splitlines()
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # stubs that lose their parent become our children
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)  # signals become readable bytes, so one select() sees everything
    stop_signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in (*stop_signals, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)

    pump = LogPump([sys.stdout.fileno(), log])
    server = start(
        command,
        secret,
        stdout=pump.entry,
        preexec=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
    )
    pump.close_entry()
    http_ports = {int(found[1]) for argument in command if (found := HTTP_PORT.fullmatch(argument))}
    deadline = None
    while server.poll() is None:
        timeouts = [pump.timeout()]
        if deadline is not None:
            close_idle(server.pid, http_ports, QUIET_S)
            timeouts.append(min(LOOK_S, max(0.0, deadline - time.monotonic())))
        timeout = min((seconds for seconds in timeouts if seconds is not None), default=None)
        watched = [wake_read, *([control] if control >= 0 else []), *pump.readable()]
        readable, writable, _ = select.select(watched, pump.writable(), [], timeout)
        pump.move(readable, writable)
        woken_by = os.read(wake_read, 64) if wake_read in readable else b""
        told = os.read(control, 1) if control in readable else None
        if told == b"":
            control = -1  # at its end it would be readable for ever
        if told == b"K" or (deadline is not None and time.monotonic() >= deadline):
            server.kill()
        elif deadline is None and (told is not None or set(woken_by) & set(stop_signals)):
            server.terminate()
            server.send_signal(signal.SIGCONT)  # should it be stopped
            deadline = time.monotonic() + grace_s
    kill_descendants()
    for segment in Path("/dev/shm").glob(f"{shm_prefix}*"):
        segment.unlink(missing_ok=True)
    shutil.rmtree(run_folder, ignore_errors=True)
    pump.finish(LAST_WORDS_S)
    status: int = server.returncode
    return status if status >= 0 else 128 - status


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
