"""Run tritonserver as a child, and leave nothing of it behind when the caller is gone.

    python guard CONTROL_FD LOG_FD SHM_PREFIX RUN_FOLDER GRACE_S COMMAND...

The caller holds the other end of the pipe CONTROL_FD. When that closes, because the caller closed it or was
killed, or sent an S, tritonserver is asked to stop (SIGTERM: it drains requests in flight), and killed after
GRACE_S seconds, or at once on a K; meanwhile clients are parted with (`connections.py`).
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
import resource
import select
import shutil
import signal
import sys
import time
from pathlib import Path

from connections import Connections
from hidden_arguments import start
from log_pump import LogPump

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
MOST_FILES = 65536  # tritonserver's, connections among them, where more are allowed than we were given
LAST_WORDS_S = 2.0  # for what is still in the pipe when tritonserver has ended

PORT = re.compile(r"--(http|grpc|metrics)-port=(\d+)")
NOTHING_IN_FLIGHT = b"Found 0 model versions that have in-flight"  # in tritonserver's log, as it stops
STOPS_LATE = (
    b"triton-vision: pidfd_getfd is refused, so a connection that a client keeps open holds up the stop for "
    b"30 s, and may lose a request; in Docker `--cap-add SYS_PTRACE` allows it\n"
)

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

    allow_files()
    pump = LogPump([sys.stdout.fileno(), log], NOTHING_IN_FLIGHT)
    server = start(
        command,
        secret,
        stdout=pump.entry,
        preexec=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
    )
    pump.close_entry()
    ports = {(found[1], int(found[2])) for argument in command if (found := PORT.fullmatch(argument))}
    deadline, connections, told_so = None, None, False
    while server.poll() is None:
        timeouts = [pump.timeout()]
        if deadline is not None:
            timeouts.append(max(0.0, deadline - time.monotonic()))
        if connections:
            if pump.take_seen():
                connections.nothing_is_in_flight()
            connections.look()
            if connections.refused and not told_so:
                told_so = os.write(sys.stdout.fileno(), STOPS_LATE) > 0
            timeouts.append(connections.timeout())
        timeout = min((seconds for seconds in timeouts if seconds is not None), default=None)
        watched = [wake_read, *([control] if control >= 0 else []), *pump.readable()]
        readable, writable, _ = select.select(watched, pump.writable(), [], timeout)
        pump.move(readable, writable)
        reap_orphans(server.pid)
        woken_by = os.read(wake_read, 64) if wake_read in readable else b""
        told = os.read(control, 1) if control in readable else None
        if told == b"":
            control = -1  # at its end it would be readable for ever
        if told == b"K" or (deadline is not None and time.monotonic() >= deadline):
            server.kill()
        elif deadline is None and (told is not None or set(woken_by) & set(stop_signals)):
            deadline = time.monotonic() + grace_s
            connections = Connections(
                server.pid,
                {port for name, port in ports if name != "grpc"},
                {port for name, port in ports if name == "grpc"},
            )
            server.terminate()
            server.send_signal(signal.SIGCONT)  # should it be stopped
    if connections:
        connections.finish()
    kill_descendants()
    for segment in Path("/dev/shm").glob(f"{shm_prefix}*"):
        segment.unlink(missing_ok=True)
    shutil.rmtree(run_folder, ignore_errors=True)
    pump.finish(LAST_WORDS_S)
    status: int = server.returncode
    return status if status >= 0 else 128 - status


def allow_files() -> None:
    """Let tritonserver open `MOST_FILES`: out of them it takes no client, and writes that without end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def reap_orphans(server: int) -> None:
    """Wait for what lost its parent and has ended, so that it does not stay a zombie as long as we run."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (found := os.waitid(os.P_ALL, 0, look)) and found.si_pid != server:  # whose status Popen wants
        os.waitpid(found.si_pid, 0)


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
