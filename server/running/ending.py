"""How a process that we started is ended: by a signal, and killed if that does not help."""

import signal
import subprocess
import threading
from typing import Any

__all__ = ["end", "free_to_wait"]

MOMENT_S = 2.0  # much longer than a waitpid that does not block

replacing = threading.Lock()


def free_to_wait(process: subprocess.Popen[Any]) -> None:
    """Let this thread wait for `process`; others may ask after it meanwhile, none without a time-out.

    `subprocess` takes a lock to ask after a process, for a moment each time. A signal whose handler raises
    between that and its `try` leaves the lock taken: nobody would ever learn that the process has ended.
    """
    with replacing:  # several may stop it at once
        lock = vars(process)["_waitpid_lock"]
        if lock.acquire(timeout=MOMENT_S):
            lock.release()
        else:  # nobody's any more
            vars(process)["_waitpid_lock"] = threading.Lock()


def end(process: subprocess.Popen[Any], by: signal.Signals, timeout_s: float) -> None:
    """Send `by`, wait `timeout_s` seconds, and kill what is left. A stopped process is told to go on."""
    free_to_wait(process)
    process.send_signal(by)
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
