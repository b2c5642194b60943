"""Start tritonserver on a model repository, tell what it serves, stop it, and leave nothing behind."""

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ..environment.holds import Hold
from ..environment.host_policies import why_no_policies
from ..environment.installation import Installation, find_installation
from ..environment.ports import choose_ports, held, port_is_free, url
from ..environment.repository import (
    RepositoryModel,
    model_folders,
    python_model_count,
    servable_models,
    with_dependents,
)
from ..environment.trust.keys import PublicKey, read_keys
from ..environment.trust.verified import VerifiedRepository, is_model
from ..errors import PortInUseError, ServerError, SharedMemoryError, StartError
from .api import ModelStatus
from .doors import Doors, close_doors, option_values, way_round_signatures
from .run import LoadFailure, TooLate, TritonRun, is_on
from .segments import new_run_folder, remove_leftovers

__all__ = ["START_TIMEOUT_S", "TritonServer", "check_shared_memory"]

T = TypeVar("T")

START_TIMEOUT_S = 120.0
PORT_ATTEMPTS = 3  # who listens at a port of their choice can take one that we hold
SHM_BYTES_PER_MODEL = 2 * 2**20  # the Python backend reserves 1 MiB for each instance and grows from there
SHM_BYTES_BASE = 16 * 2**20


class TritonServer:
    """A running tritonserver, as a context manager.

        with TritonServer("model_repository") as server:
            print(server.grpc_url, [model.name for model in server.models()])

    model_repository: folder, one subfolder per model.
    address: IP address to listen on, of IPv4 or IPv6; loopback by default, and for "localhost".
    http_port, grpc_port, metrics_port: 0 takes any free port.
    opened: groups of tritonserver's APIs (`CLOSED_GROUPS`) to open to everybody. Shared memory is open anyway
        where `address` is loopback.
    arguments: further tritonserver arguments; they come last, so they win over ours.
    log: file that takes tritonserver's own log; None lets it write to our standard error.
    start_timeout_s: seconds for the models to load, and for one that needs more alone.
    verify_keys: PEM files of public keys. Where there are any, a model is loaded only as the owner of one
        signed it (docs/how-to/sign.md): from a copy that is made while it is verified, at each load.
    traces_url: where tritonserver, and the steps of models, send the spans of requests that carry a
        `traceparent`: OTLP over HTTP, in JSON. None: nowhere.
    holds: models that are loaded in these versions instead of what their folders say; it may change
    meanwhile.

    On entry the server is live and has tried to load each model; `models()` says which are ready. A model
    whose load ends tritonserver, or never ends, is left out. Raises a `ServerError` that says what to do. On
    exit requests in flight are drained (up to `GRACE_S` seconds) and every process and shared memory segment
    of the server is removed, as it is when this process is killed. What dies is replaced by a `Supervisor`.
    """

    def __init__(
        self,
        model_repository: str | os.PathLike[str] = "model_repository",
        *,
        address: str = "127.0.0.1",
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        opened: Sequence[str] = (),
        arguments: Sequence[str] = (),
        log: str | os.PathLike[str] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        holds: Mapping[str, Hold] | None = None,
        verify_keys: Sequence[str | os.PathLike[str]] = (),
        traces_url: str | None = None,
    ):
        self.model_repository = Path(model_repository).resolve()
        self.address = "127.0.0.1" if address == "localhost" else address
        self.start_timeout_s = start_timeout_s
        self._asked_ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        self._ports: dict[str, int] | None = None
        self._held = contextlib.ExitStack()  # our ports, from their choice to the stop
        self._opened = tuple(opened)
        self._arguments = tuple(arguments)
        self._log = Path(log) if log is not None else None
        self._traces_url = traces_url
        self.holds = {} if holds is None else holds
        self._run: TritonRun | None = None
        self.verify_keys = tuple(map(Path, verify_keys))
        self._keys: tuple[PublicKey, ...] = ()
        self._verified: VerifiedRepository | None = None
        self._left_out: dict[str, str] = {}
        self.stopped = False  # by us, and not to be started again
        self._begins = threading.Lock()  # a run; a stop waits until there is one to stop
        self._doors: Doors | None = None
        self._installation: Installation | None = None

    def __enter__(self) -> "TritonServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if told := self.ended_by_itself():
            print(f"triton-vision: {told}", file=sys.stderr)
        self.stop()

    def ended_by_itself(self) -> str:
        """How, with the end of its log; "" while it runs, and once it was stopped."""
        return self._run.ending() if self._run and not self.stopped else ""

    @property
    def http_url(self) -> str:
        """host:port, as it is reached from this machine; `ServerError` before the start."""
        return url(self.address, _started(self._ports)["http"])

    @property
    def grpc_url(self) -> str:
        """As `http_url`."""
        return url(self.address, _started(self._ports)["grpc"])

    @property
    def metrics_url(self) -> str:
        """Where Prometheus reads: "http://127.0.0.1:8002/metrics"; `ServerError` before the start."""
        return f"http://{url(self.address, _started(self._ports)['metrics'])}/metrics"

    @property
    def run(self) -> TritonRun:
        """The present run of tritonserver, or the last one; `ServerError` before the first."""
        return _started(self._run)

    @property
    def installation(self) -> Installation:
        """What was started: the container's tritonserver, or the pip wheel's; `ServerError` before."""
        return _started(self._installation)

    @property
    def doors(self) -> Doors:
        """Which of its APIs are whose; `ServerError` before the first run."""
        return _started(self._doors)

    @property
    def served_repository(self) -> Path:
        """What tritonserver is given: `model_repository`, or copies of those of its models that are signed.

        Raises `ServerError` while those are not made yet.
        """
        return _started(self._verified).path if self.verify_keys else self.model_repository

    @property
    def models_taken(self) -> int:
        """How many times something in `served_repository` was replaced; 0 where that is not ours."""
        return self._verified.changes if self._verified else 0

    def loadable(self) -> list[str]:
        """Models of the repository as it is now that may be loaded, by name. Raises `RepositoryError`.

        With keys only names of folders are read: each load says whether it is as it was signed.
        """
        if self.verify_keys:
            return [folder.name for folder in model_folders(self.model_repository) if is_model(folder)]
        return [model.name for model in servable_models(self.model_repository)]

    @property
    def refused(self) -> dict[str, str]:
        """Models that were not as they were signed when last looked at, each with the file that is not."""
        return dict(self._verified.refused) if self._verified else {}

    @property
    def pid(self) -> int:
        """Process id of the guard, the parent of tritonserver."""
        return self.run.pid

    def start(self) -> "TritonServer":
        """Start and wait until the server is live; see the class for what is raised."""
        self.stopped = False
        if not self.verify_keys:
            servable_models(self.model_repository)
        check_arguments(self._arguments)
        if self.verify_keys:
            if why := way_round_signatures(self._opened, self._arguments):
                raise StartError(f"{why}, which --verify-key is against; leave one of them out")
            self._keys = read_keys(self.verify_keys, self.model_repository)
        self._installation = find_installation()
        remove_leftovers()
        if why := why_no_policies():
            print(
                f"triton-vision: {why}, so there are no host policies: instances run on any core; in "
                "Docker `--cap-add SYS_NICE` allows it",
                file=sys.stderr,
            )
        if self._log:
            _empty(self._log)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self._ports = ports = choose_ports(self.address, self._asked_ports)
            with contextlib.ExitStack() as holding:
                try:
                    for port in ports.values():
                        holding.enter_context(held(self.address, port))
                    self.start_again()
                    self._held = holding.pop_all()
                    return self
                except (PortInUseError, StartError):
                    all_free = all(port_is_free(self.address, port) for port in ports.values())
                    if all_free or attempt == PORT_ATTEMPTS:
                        raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def start_again(self) -> "TritonServer":
        """As `start`, once a run has ended: on the ports that it had, without the models that it left out.

        Raises `StartError`, `SharedMemoryError`, or `RepositoryError` if there is nothing to serve any more.
        """
        one_by_one: set[str] = set()  # models of which one, we do not know which, is to blame
        while True:
            folder = new_run_folder()
            try:
                models = self._take_models(folder)
                self._launch(models, one_by_one, folder)
                return self
            except LoadFailure as failure:
                self.run.kill()
                if not self._may_leave_out:
                    raise
                blamed = (failure.suspects or {model.name for model in models}) - self._left_out.keys()
                if not blamed <= one_by_one:  # the log may name one that only loaded meanwhile
                    one_by_one |= blamed
                    continue
                gone = with_dependents(models, blamed).keys() | self._left_out.keys()
                leaves_none = {model.name for model in models} <= gone
                if len(blamed) != 1 or (isinstance(failure, TooLate) and leaves_none):
                    raise
                one_by_one -= blamed
                self._leave_out(blamed.pop(), models, failure.fault)
            except BaseException:
                if self._run:
                    self._run.stop()
                shutil.rmtree(folder, ignore_errors=True)  # of a run that did not begin
                raise

    def _take_models(self, run_folder: Path) -> list[RepositoryModel]:
        """What there is to load; with keys, of copies that are made in `run_folder`."""
        if self._keys:
            self._verified = None
            verified = VerifiedRepository(self.model_repository, self._keys, run_folder)
            verified.take_all()
            self._verified = verified
        models = servable_models(self.served_repository)
        check_shared_memory(python_model_count(models))
        return models

    def _launch(self, models: list[RepositoryModel], one_by_one: set[str], run_folder: Path) -> None:
        later = with_dependents(models, one_by_one | self.holds.keys())
        wanted = [model for model in models if model.name not in self._left_out]
        at_start = [model.name for model in wanted if model.name not in later]
        everything = not self._left_out and not later
        if self._run:
            self._run.stop()  # it has ended: its pipes are closed
        with self._begins:
            if self.stopped:  # by another thread, meanwhile
                raise StartError("the server was stopped")
            self._doors = close_doors(self.address, self._opened, self._arguments)  # with a new key
            self._run = run = TritonRun(
                self.installation,
                self.served_repository,
                self.address,
                _started(self._ports),
                self.doors,
                self._arguments,
                None if everything else at_start,
                self._log,
                self.holds,
                run_folder,
                self._verified,
                self._traces_url,
            )
        run.wait_until_live(time.monotonic() + self.start_timeout_s)
        for model in sorted(wanted, key=lambda model: model.is_ensemble):
            if model.name in later:
                run.load(model.name, self.start_timeout_s)
        run.serves = True

    @property
    def _may_leave_out(self) -> bool:
        """Whether we choose what is loaded, and know every model."""
        return self.doors.mode == "ours" and not option_values(self._arguments, "--model-repository")

    def _leave_out(self, name: str, models: list[RepositoryModel], why: str) -> None:
        for model, cause in with_dependents(models, {name}).items():
            self._left_out[model] = f"left out: {why}" if model == cause else f"left out: it calls {cause}"
        also = ", ".join(sorted(with_dependents(models, {name}).keys() - {name}))
        told = f"{name} is left out{f', and so is what calls it ({also})' if also else ''}: {why}"
        print(f"triton-vision: model {told}; the others are started without it", file=sys.stderr)

    def ready(self) -> bool:
        """True when the server and all models of the repository are ready for requests.

        tritonserver's own /v2/health/ready says yes while models are missing whose configuration it refused.
        Raises `ServerError` if nothing answers.
        """
        return self.run.api.ready() and not self.missing()

    def missing(self) -> dict[str, str]:
        """Models that should be served and are not, and why. Raises `ServerError` if nothing answers."""
        versions: dict[str, list[ModelStatus]] = {}
        for version in self.models():
            versions.setdefault(version.name, []).append(version)
        for name, reason in self.run.log.refused.items():  # a model without a version is not in the index
            is_name = Path(name).name == name != ".."  # models write to the log, too, also what clients send
            if is_name and (self.served_repository / name).is_dir():
                versions.setdefault(name, [ModelStatus(name, "", "UNAVAILABLE", reason)])
        missing = {
            name: " ".join(version.reason or version.state or "not loaded" for version in several)
            for name, several in versions.items()
            if not any(version.ready for version in several)
            and (self.doors.mode != "explicit" or any(version.state for version in several))
        }
        return {**missing, **self.refused}

    def models(self) -> list[ModelStatus]:
        """Every model and version the server knows of, by name; `ServerError` if it does not answer."""
        run, refused = self.run, self.refused
        reasons = {**run.log.refused, **self._left_out, **refused}
        known = [model.because(reasons) for model in run.api.index()]
        unknown = refused.keys() - {model.name for model in known}
        known += [ModelStatus(name, "", "UNAVAILABLE", refused[name]) for name in unknown]
        return sorted(known, key=lambda model: model.name)

    def statistics(self, model: str) -> tuple[int, int]:
        """How many inferences a model has answered since it was loaded, and in how many executions.

        Raises `ServerError` if the model is not loaded, or nothing answers.
        """
        return self.run.api.statistics(model)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until tritonserver ends by itself; its exit status, None if it runs on after `timeout_s`."""
        return self.run.wait(timeout_s)

    def stop(self) -> int | None:
        """Drain requests in flight and stop. Safe to call twice.

        Returns tritonserver's exit status, 128 and the signal if one ended it; None if it never ran.
        """
        self.stopped = True
        with self._begins:
            run = self._run
        status = run.stop() if run else None
        self._held.close()
        return status


def _started(part: T | None) -> T:
    if part is None:
        raise ServerError("the server was not started")
    return part


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise `StartError` for arguments of tritonserver with which the launcher could not reach it."""
    for name in ("http", "grpc", "metrics"):
        for what in ("port", "address"):
            if option_values(arguments, f"--{name}-{what}"):
                ours = f"--{name}-port" if what == "port" else "--address"
                raise StartError(
                    f"--{name}-{what} after -- would hide tritonserver from its launcher: give {ours} "
                    "before the --"
                )
    if not is_on(arguments, "--allow-http", True):
        raise StartError(
            "the launcher asks tritonserver over HTTP, so --allow-http cannot be false; leave it out"
        )


def check_shared_memory(python_models: int, folder: str = "/dev/shm") -> None:
    """Raise `SharedMemoryError` if `folder` cannot hold the segments of that many Python models."""
    needed = SHM_BYTES_BASE + python_models * SHM_BYTES_PER_MODEL
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise SharedMemoryError(f"{folder} cannot be used: {error}; Triton's Python models need it") from None
    if free < needed:
        raise SharedMemoryError(
            f"{folder} has {free / 2**20:.0f} MiB free, and the processes of {python_models} Python "
            f"model{'' if python_models == 1 else 's'} need about {needed / 2**20:.0f} MiB; remove what is "
            "left over there, or enlarge it (`mount -o remount,size=1G /dev/shm`; in Docker `--shm-size=1g`)"
        )


def _empty(log: Path) -> None:
    try:
        log.write_bytes(b"")
    except OSError as error:
        raise StartError(f"the log {log} cannot be written: {error.strerror}; choose another --log") from None
