"""Start tritonserver on a model repository, tell what it serves, stop it, and leave nothing behind."""

import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import PortInUseError, ServerError, SharedMemoryError, StartError
from .host_policies import host_policy_arguments
from .installation import Installation, find_installation
from .native import HOW, LIBRARY
from .native import build as build_native
from .repository import config_name, python_model_count, servable_models

__all__ = ["GRACE_S", "START_TIMEOUT_S", "ModelStatus", "TritonServer"]

START_TIMEOUT_S = 120.0
GRACE_S = 35.0  # tritonserver itself waits up to 30 s (--exit-timeout-secs) for requests in flight
POLL_INTERVAL_S = 0.05
ONNX_BACKEND = "onnxruntime"
PYTHON_BACKENDS = ("python", ONNX_BACKEND)  # those that start Python processes
PORT_ATTEMPTS = 3  # a free port can be taken between our look and tritonserver's bind
SHM_BYTES_PER_MODEL = 2 * 2**20  # the Python backend reserves 1 MiB for each instance and grows from there
SHM_BYTES_BASE = 16 * 2**20
LOG_TAIL_LINES = 15
ERROR_LINE = re.compile(r"E\d{4} |error|.*unrecognized option", re.IGNORECASE)  # E1231: glog, month and day
UNSAFE_IN_PATHS = set(" \t\n\"'\\$`&|;<>()*?[]#~!{}")  # the Python backend starts its stubs through a shell


@dataclass(frozen=True)
class ModelStatus:
    """One version of one model, as the server's repository index tells it.

    state: "READY", "UNAVAILABLE", "LOADING" or "UNLOADING"; "" for a model that was never loaded.
    reason: why it is not ready; "" where there is nothing to say.
    """

    name: str
    version: str
    state: str
    reason: str

    @property
    def ready(self) -> bool:
        return self.state == "READY"


class TritonServer:
    """A running tritonserver, as a context manager.

        with TritonServer("model_repository") as server:
            print(server.grpc_url, [model.name for model in server.models()])

    model_repository: folder, one subfolder a model.
    address: IP address to listen on; loopback by default.
    http_port, grpc_port, metrics_port: 0 takes any free port.
    arguments: further tritonserver arguments; they come last, so they win over ours.
    log: file that takes tritonserver's own log; None lets it write to our standard error.
    start_timeout_s: seconds for the models to load.

    On entry the server is live and has tried to load each model; `models()` says which are ready. Raises a
    `ServerError` that says what to do. On exit requests in flight are drained (up to `GRACE_S` seconds) and
    every process and shared memory segment of the server is removed, as it is when this process is killed.
    """

    def __init__(
        self,
        model_repository: str | os.PathLike = "model_repository",
        *,
        address: str = "127.0.0.1",
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        arguments: Sequence[str] = (),
        log: str | os.PathLike | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ):
        self.model_repository = Path(model_repository).resolve()
        self.address = address
        self._asked_ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        self._ports: dict[str, int] = {}
        self._arguments = tuple(arguments)
        self._log = Path(log) if log is not None else None
        self._start_timeout_s = start_timeout_s
        self._guard: subprocess.Popen | None = None
        self._control: int | None = None
        self.installation: Installation | None = None

    def __enter__(self) -> "TritonServer":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def http_url(self) -> str:
        return self._url("http")

    @property
    def grpc_url(self) -> str:
        return self._url("grpc")

    @property
    def metrics_url(self) -> str:
        return f"http://{self._url('metrics')}/metrics"

    def _url(self, protocol: str) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.address, self.address)
        return f"{host}:{self._ports[protocol]}"

    @property
    def pid(self) -> int:
        """Process id of the guard, the parent of tritonserver."""
        return self._guard.pid

    def start(self) -> "TritonServer":
        """Start and wait until the server is live; see the class for what is raised."""
        models = servable_models(self.model_repository)
        self.installation = find_installation()
        check_shared_memory(python_model_count(models))
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self._ports = choose_ports(self.address, self._asked_ports)
            try:
                self._launch()
                self._wait_until_live()
                return self
            except StartError:
                self.stop()
                lost_race = any(
                    self._asked_ports[name] == 0 and not port_is_free(self.address, port)
                    for name, port in self._ports.items()
                )
                if not lost_race or attempt == PORT_ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _launch(self) -> None:
        run_folder = Path(tempfile.mkdtemp(prefix="triton-vision-"))
        shm_prefix = f"triton-vision-{os.getpid()}-{secrets.token_hex(3)}-"
        command = [
            str(self.installation.binary),
            f"--model-repository={shell_safe(self.model_repository, run_folder)}",
            "--exit-on-error=false",  # one model that fails must not take the others down
            *(f"--{name}-address={self.address}" for name in self._ports),
            *(f"--{name}-port={port}" for name, port in self._ports.items()),
            *(f"--backend-config={name},shm-region-prefix-name={shm_prefix}" for name in PYTHON_BACKENDS),
            *([f"--model-config-name={name}"] if (name := config_name()) else []),
            *host_policy_arguments(),
            *self.installation.arguments,
        ]
        if self.installation.backends:
            backends = run_folder / "backends"
            for name, target in self.installation.backends.items():
                (backends / name).parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if target.is_dir() else shutil.copy2
                copy(target, backends / name)  # copies: Triton refuses a backend that links out of its folder
            ours = backends / ONNX_BACKEND
            if problem := build_native(ours / "native", ours / LIBRARY):
                print(f"triton-vision: {problem}. {HOW}", file=sys.stderr)
            command.append(f"--backend-directory={backends}")
        command += self._arguments

        control_read, self._control = os.pipe()
        guard = [sys.executable, "-I", str(Path(__file__).with_name("guard.py"))]
        log = open(self._log, "wb") if self._log else None  # noqa: SIM115 - closed below
        try:
            self._guard = subprocess.Popen(
                [*guard, str(control_read), shm_prefix, str(run_folder), str(GRACE_S), *command],
                stdin=subprocess.DEVNULL,
                stdout=log if log else sys.stderr.fileno(),
                stderr=subprocess.STDOUT if log else None,
                env={**os.environ, **self.installation.environment},
                pass_fds=[control_read],
                start_new_session=True,  # Ctrl-C must reach us alone; we then stop the server in order
            )
        except BaseException:
            shutil.rmtree(run_folder, ignore_errors=True)
            raise
        finally:
            os.close(control_read)
            if log:
                log.close()

    def _wait_until_live(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if self._guard.poll() is not None:
                raise StartError(
                    f"tritonserver ended with status {self._guard.returncode} while starting"
                    + self._log_tail()
                )
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._http("GET", "/v2/health/live")[0] == 200:
                    return
            time.sleep(POLL_INTERVAL_S)
        raise StartError(
            f"tritonserver was not live after {self._start_timeout_s:g} s; is the machine busy, or a model "
            "very large? Allow more time with --start-timeout" + self._log_tail()
        )

    def _log_tail(self) -> str:
        if self._log is None:
            return "; its log above says why"
        lines = self._log.read_text(errors="replace").splitlines()
        told = [line for line in lines if ERROR_LINE.match(line)] or lines
        return f"; from its log ({self._log}):\n" + "\n".join(told[-LOG_TAIL_LINES:])

    def _http(self, method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.http_url, timeout=10)
        try:
            connection.request(method, path, body="" if method == "POST" else None)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ready(self) -> bool:
        """True when the server and all its models are ready for requests."""
        return self._http("GET", "/v2/health/ready")[0] == 200

    def models(self) -> list[ModelStatus]:
        """Every model and version the server knows of, by name; `ServerError` if it does not answer."""
        try:
            status, body = self._http("POST", "/v2/repository/index")
        except OSError as error:
            raise ServerError(f"tritonserver does not answer on {self.http_url}: {error}") from error
        if status != 200:
            raise ServerError(f"tritonserver answered {status} to a repository index: {body.decode()}")
        return [
            ModelStatus(
                entry["name"], entry.get("version", ""), entry.get("state", ""), entry.get("reason", "")
            )
            for entry in sorted(json.loads(body), key=lambda entry: entry["name"])
        ]

    def statistics(self, model: str) -> tuple[int, int]:
        """How many inferences a model has answered since it was loaded, and in how many executions."""
        status, body = self._http("GET", f"/v2/models/{model}/stats")
        if status != 200:
            raise ServerError(f"tritonserver has no statistics of {model}: {body.decode()}")
        versions = json.loads(body)["model_stats"]
        return (
            sum(version["inference_count"] for version in versions),
            sum(version["execution_count"] for version in versions),
        )

    def wait(self) -> int:
        """Wait until tritonserver ends by itself; returns its exit status."""
        return self._guard.wait()

    def stop(self) -> int | None:
        """Drain requests in flight and stop; returns tritonserver's exit status. Safe to call twice."""
        if self._control is not None:
            os.close(self._control)  # the guard sees the end of the pipe
            self._control = None
        return self._guard.wait() if self._guard else None


def check_shared_memory(python_models: int, folder: str = "/dev/shm") -> None:
    """Raise `SharedMemoryError` if `folder` cannot hold the segments of that many Python models."""
    needed = SHM_BYTES_BASE + python_models * SHM_BYTES_PER_MODEL
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise SharedMemoryError(f"{folder} cannot be used: {error}; Triton's Python models need it") from None
    if free < needed:
        raise SharedMemoryError(
            f"{folder} has {free / 2**20:.0f} MiB free, {python_models} Python models need about "
            f"{needed / 2**20:.0f} MiB; remove what is left over there, or enlarge it "
            "(`mount -o remount,size=1G /dev/shm`; in Docker `--shm-size=1g`)"
        )


def choose_ports(address: str, asked: dict[str, int]) -> dict[str, int]:
    """A free port for each entry: the one asked for, any for 0. Raises `PortInUseError`."""
    with contextlib.ExitStack() as stack:
        ports = {}
        for name, port in asked.items():
            try:
                ports[name] = stack.enter_context(_listen(address, port)).getsockname()[1]
            except OSError as error:
                raise PortInUseError(
                    f"cannot listen on {address}:{port} for {name}: {error.strerror or error}; stop what "
                    f"uses it, or choose another with --{name}-port (0 takes any free one)"
                ) from None
        return ports


def port_is_free(address: str, port: int) -> bool:
    try:
        _listen(address, port).close()
    except OSError:
        return False
    return True


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is not "in use"
        listener.bind((address, port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def shell_safe(folder: Path, run_folder: Path) -> Path:
    """`folder`, or a link to it in `run_folder` if its name would not survive a shell."""
    if not UNSAFE_IN_PATHS & set(str(folder)):
        return folder
    link = run_folder / "model_repository"
    link.symlink_to(folder)
    return link
