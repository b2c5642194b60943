"""HAProxy as a child of the launcher: found, checked, started, watched, started again, drained."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from ...errors import InstallationError, StartError
from ...running.ending import end
from ...running.model_processes import STOPPED_S, process_state
from .runtime import Runtime

__all__ = ["HAProxy", "check", "find_haproxy"]

OLDEST = (2, 6)
FEATURES = ("LUA", "OPENSSL", "PROMEX")
INSTALL = "`apt-get install haproxy` (Debian 12, Ubuntu 24.04 or newer), or see https://www.haproxy.org"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 40.0  # longer than its own hard-stop-after
DELAYS_S = (0.0, 0.5, 1.0, 2.0, 4.0)  # before it is started again, the longer the sooner it died
SOON_S = 10.0
POLL_S = 0.02
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Each request copies one buffer, so as to be sent again. Memory that glibc takes from the system and gives
# back each time costs a page fault for each page: 1.2 ms a request, not 0.3, with buffers of 1 MiB.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}

libc = ctypes.CDLL(None)


def find_haproxy() -> Path:
    """The binary. Raises `InstallationError` where there is none that will do."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    found = shutil.which("haproxy", path=search)
    if not found:
        raise InstallationError(f"--gateway needs HAProxy, and there is no haproxy here: {INSTALL}")
    said = subprocess.run([found, "-vv"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"version (\d+)\.(\d+)", said)
    if not version or (int(version[1]), int(version[2])) < OLDEST:
        older = f"{version[1]}.{version[2]}" if version else "of an unknown version"
        raise InstallationError(f"{found} is {older}, and the gateway needs 2.6 or newer: {INSTALL}")
    if lacking := [
        feature for feature in FEATURES if f"USE_{feature}=" not in said and f"+{feature}" not in said
    ]:
        raise InstallationError(f"{found} was built without {' and '.join(lacking)}: {INSTALL}")
    return Path(found)


def check(binary: Path, config: Path) -> None:
    """Raises `StartError` with HAProxy's own words if it does not take the configuration."""
    done = subprocess.run([binary, "-c", "-f", config], capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(line for line in done.stderr.splitlines() if "NOTICE" not in line)
        raise StartError(f"HAProxy does not take {config}:\n{said}")


class HAProxy:
    """config: its configuration; runtime: its socket. log: descriptor that takes the access log.

    restarts: how often it was started again.
    """

    def __init__(self, binary: Path, config: Path, runtime: Runtime, log: int, *, restart: bool = True):
        self._binary, self._config, self._runtime, self._log = binary, config, runtime, log
        self._restart = restart
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._died: float | None = None
        self._soon = 0
        self._stopped: float | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """None where it does not run."""
        return self._process.pid if self._process else None

    @property
    def trouble(self) -> str:
        """Why it does not serve; "" while it does."""
        if self._process is None:
            return ""
        if self._process.poll() is None:
            return "HAProxy was stopped, and is soon let go on" if self._is_stopped else ""
        return "HAProxy ended" + (" and is started again" if self._restart else ", and is not started again")

    @property
    def _is_stopped(self) -> bool:
        return self._process is not None and process_state(self._process.pid) == "T"

    def start(self) -> None:
        """Raises `StartError` if it does not take its configuration, or does not come up."""
        check(self._binary, self._config)
        try:
            self._process = subprocess.Popen(
                [self._binary, "-db", "-f", self._config],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                env={**os.environ, **KEEP_MEMORY},
                start_new_session=True,  # Ctrl-C reaches us alone; we then stop it in order
                preexec_fn=lambda: libc.prctl(
                    PR_SET_PDEATHSIG, signal.SIGTERM
                ),  # no gateway without its launcher
            )
        except OSError as error:
            raise StartError(f"HAProxy cannot be started: {error}") from None
        self._began = time.monotonic()
        while self._process.poll() is None and time.monotonic() - self._began < START_TIMEOUT_S:
            if self._answers():
                return
            time.sleep(POLL_S)
        self.stop()
        raise StartError("HAProxy did not come up; its words above say why")

    def _answers(self) -> bool:
        try:
            return f"Pid: {self.pid}\n" in self._runtime.ask(
                "show info"
            )  # an older one may have the socket yet
        except Exception:
            return False

    def look(self) -> str:
        """Start it again where it has ended and its delay is over, let it go on where it was stopped.

        What happened, for the log, or "".
        """
        process, now = self._process, time.monotonic()
        if process is None:
            return ""
        if process.poll() is None:
            return self._wake(process, now)
        if self._died is None:
            self._died = now
            self._soon = self._soon + 1 if now - self._began < SOON_S else 0
            return f"HAProxy ended with status {process.returncode}"
        if not self._restart or now - self._died < DELAYS_S[min(self._soon, len(DELAYS_S) - 1)]:
            return ""
        self._died = None
        try:
            self.start()
        except StartError as error:  # tried again, later each time
            self._process = process
            return str(error)
        self.restarts += 1
        return "HAProxy is started again"

    def _wake(self, process: subprocess.Popen[bytes], now: float) -> str:
        self._stopped = (self._stopped or now) if self._is_stopped else None
        if self._stopped is None or now - self._stopped < STOPPED_S:
            return ""
        process.send_signal(signal.SIGCONT)
        return "HAProxy was stopped, so it is told to go on"

    def stop(self) -> None:
        """Take no further connections, let requests in flight end, and end."""
        if (process := self._process) is None:
            return
        end(process, signal.SIGUSR1, STOP_TIMEOUT_S)
        self._process = None
