"""The gateway of `--tfserving` as a child of the launcher: started, watched, started again, drained.

It is a process of its own: it may die, or be busy with a large document, and tritonserver does not notice.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from ..errors import StartError
from ..running.ending import end

__all__ = ["TFServingGateway"]

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 35.0  # it drains requests for 30 s itself
DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0)  # before it is started again, the longer the sooner it died
SOON_S = 10.0  # after a start
HUNG_S = 60.0  # without a sign of life; a JSON document of 64 MiB keeps it busy for some seconds
BEATS = 4096  # bytes that are read of its signs of life at a time
PACKAGE = __name__.partition(".")[0]  # `server`, or the wheel's name


class TFServingGateway:
    """options: of the gateway's own command; see `server.tfserving.cli`. restart: where it ends by itself, or
    gives no sign of life for `hung_s` seconds.

    grpc_url, rest_url: where it listens, once started. restarts: how often it was started again.
    """

    def __init__(self, options: Sequence[str], *, restart: bool = True, hung_s: float = HUNG_S):
        self._options, self._restart, self._hung_s = tuple(options), restart, hung_s
        self._process: subprocess.Popen[str] | None = None
        self._control: int | None = None
        self._beats: int | None = None
        self._heard = 0.0
        self._died: float | None = None
        self._began = 0.0
        self._soon = 0
        self.grpc_url = self.rest_url = ""
        self.restarts = 0

    @contextlib.contextmanager
    def serving(self, triton_url: str, address: str) -> Iterator["TFServingGateway"]:
        """Within, it serves. Raises `StartError` where it does not come up; its own words say why."""
        self._command = [sys.executable, "-m", f"{PACKAGE}.tfserving", f"--url={triton_url}", "--json"]
        self._command += [f"--address={address}", *self._options]
        self._start()
        told = self._first_line(START_TIMEOUT_S)
        try:
            if not told:
                raise StartError("the gateway of --tfserving did not start; its message is above")
            where = json.loads(told)
            self.grpc_url, self.rest_url = where["grpc"], where["rest"]
            ports = (f"--{name}-port={url.rpartition(':')[2]}" for name, url in where.items())
            self._command += ports  # the same, should it be started again; the last ones count
            yield self
        finally:
            self._stop()

    @property
    def pid(self) -> int | None:
        """Of its process; None where it does not serve."""
        return self._process.pid if self._process else None

    @property
    def trouble(self) -> str:
        """Why it does not serve; "" while it does."""
        if self._process is None or self._process.poll() is None:
            return ""
        return "the gateway ended" + (
            " and is started again" if self._restart else ", and is not started again"
        )

    def look(self) -> str:
        """Start it again where it has ended and its delay is over. What happened, for the log, or ""."""
        process, now = self._process, time.monotonic()
        if process is None:
            return ""
        if process.poll() is None:
            return self._end_if_hung(process)
        if self._died is None:
            self._died = now
            self._soon = self._soon + 1 if now - self._began < SOON_S else 0
            return f"the gateway of --tfserving ended with status {process.returncode}"
        if not self._restart or now - self._died < DELAYS_S[min(self._soon, len(DELAYS_S) - 1)]:
            return ""
        self._close()
        self._died = None
        try:
            self._start()
        except StartError as error:  # tried again, later each time
            return str(error)
        self.restarts += 1
        return "the gateway of --tfserving is started again"

    def _end_if_hung(self, process: subprocess.Popen[str]) -> str:
        assert self._beats is not None
        with contextlib.suppress(BlockingIOError):  # nothing was said
            if os.read(self._beats, BEATS):
                self._heard = time.monotonic()
        if not self._restart or time.monotonic() - self._heard < self._hung_s:
            return ""
        process.kill()
        process.wait()
        return f"the gateway of --tfserving gave no sign of life for {self._hung_s:.0f} s and was killed"

    def _start(self) -> None:
        read, self._control = os.pipe()  # it stops when our end is closed, also because we were killed
        self._beats, write = os.pipe()
        os.set_blocking(self._beats, False)
        try:
            self._process = subprocess.Popen(
                [*self._command, f"--control-fd={read}", f"--beat-fd={write}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=[read, write],
                start_new_session=True,  # Ctrl-C reaches us alone; we then stop it in order
            )
        except OSError as error:
            raise StartError(f"the gateway of --tfserving cannot be started: {error}") from None
        finally:
            os.close(read)
            os.close(write)
        self._began = self._heard = time.monotonic()

    def _first_line(self, timeout_s: float) -> str:
        assert self._process
        assert self._process.stdout
        readable, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        return self._process.stdout.readline() if readable else ""

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        end(process, signal.SIGTERM, STOP_TIMEOUT_S)
        self._close()
        self._process = None

    def _close(self) -> None:
        if self._process and self._process.stdout:
            self._process.stdout.close()
        if self._control is not None:
            os.close(self._control)
            self._control = None
        if self._beats is not None:
            os.close(self._beats)
            self._beats = None
