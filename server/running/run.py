"""One run of tritonserver, from its start to its end, below a guard that leaves nothing of it behind."""

import contextlib
import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path

from ..environment.holds import Hold
from ..environment.host_policies import host_policy_arguments
from ..environment.installation import Installation
from ..environment.native import COMPILER_ADVICE
from ..environment.native import install as install_native
from ..environment.ports import bracketed, is_ipv6, listens, url
from ..environment.repository import config_name
from ..environment.signals import stop_if_told
from ..environment.trust.verified import VerifiedRepository
from ..errors import NoAnswerError, ServerError, SignatureError, StartError, shown
from .api import Api
from .doors import LOAD_OPTION, MODE_OPTION, Doors, option_values
from .ending import free_to_wait
from .model_processes import ModelProcesses
from .segments import prefix_of, processes_of, unwritable
from .stub_shell import install as install_shell
from .triton_log import TritonLog

__all__ = ["GRACE_S", "Crash", "LoadFailure", "TooLate", "TritonRun", "has_plain_grpc", "is_on"]

GRACE_S = 35.0  # tritonserver itself waits up to 30 s (--exit-timeout-secs) for requests in flight
POLL_INTERVAL_S = 0.05
EXIT_STATUS_OF_SIGNALS = 128  # and the signal
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}  # not sent by somebody
ONNX_BACKEND = "onnxruntime"
PYTHON_BACKENDS = ("python", ONNX_BACKEND)  # those that start Python processes
SHELL_FOLDER = "bin"  # below the run's
LOOK_S = 0.25
HANGING_LOAD_S = 2.0  # a process that died is waited for within moments, where it is waited for at all
LEFT_TIMES = 2  # tritonserver says once a second what it waits for
FOLLOWER_S = 5.0  # for the file that it is copying
POLL_OPTION, DEFAULT_POLL_S = "--repository-poll-secs", 15.0
HIGHEST_RATE = 2**31 - 1  # one request of so many is traced unasked
EXPORT_DELAY_MS = 500  # tritonserver's default is 5 s, which is long to wait for a trace
TRACES_VARIABLE = "TRITON_VISION_TRACES"
GUARD = Path(__file__).resolve().parent / "guard"


class LoadFailure(StartError):
    """A model kept tritonserver from serving, one of `suspects`, which were loading.

    fault: what can be said of the model, once one is found guilty.
    """

    def __init__(self, message: str, suspects: set[str], fault: str):
        super().__init__(message)
        self.suspects, self.fault = suspects, fault


class Crash(LoadFailure):
    """tritonserver ended while it loaded models, or will never come to an end."""


class TooLate(LoadFailure):
    """Models were still loading when time was up."""


class TritonRun:
    """tritonserver on the ports `ports`, once started; `api` reaches it.

    models: names to load at the start, None for all. log: the file that tritonserver's log is appended to;
    None for our standard error. holds: which versions of a model are loaded, where not what its folder says.
    run_folder: of `new_run_folder`, removed at the end of the run. verified:
    where models are verified before they are loaded, the copies of them, which are `repository`.
    traces_url: where spans are sent, None for nowhere. Raises `StartError` if it cannot even be started.
    """

    def __init__(
        self,
        installation: Installation,
        repository: Path,
        address: str,
        ports: Mapping[str, int],
        doors: Doors,
        arguments: Sequence[str],
        models: Sequence[str] | None,
        log: Path | None,
        holds: Mapping[str, Hold],
        run_folder: Path,
        verified: VerifiedRepository | None = None,
        traces_url: str | None = None,
    ):
        grpc_url = url(address, ports["grpc"]) if has_plain_grpc(arguments) else None
        self.api = Api(url(address, ports["http"]), doors.headers, grpc_url, doors.metadata)
        self.mode, self.can_load = doors.mode, doors.can_load
        self._http_port = ports["http"]
        self._holds = holds
        self.overridden: set[str] = set()
        self.gave_up = False  # a stop, on models that never end
        self.serves = False  # all that it starts with was tried; until then a stop waits for nobody
        self._shows_log = log is None
        self._log_file = log
        self._verified = verified
        self._ending = threading.Event()
        self._follower: threading.Thread | None = None
        try:
            command = [
                str(installation.binary),
                f"--model-repository={repository}",
                "--exit-on-error=false",  # one model that fails must not take the others down
                "--grpc-infer-allocation-pool-size=0",  # else eight requests keep their memory for good
                "--metrics-config=summary_latencies=true",  # p50 to p99; without them there are means alone
                *_listening(address, ports),
            ]
            shm_prefix = prefix_of(run_folder)
            region = f"shm-region-prefix-name={shm_prefix}"
            command += [f"--backend-config={name},{region}" for name in PYTHON_BACKENDS]
            command += [f"--model-config-name={name}"] if (name := config_name()) else []
            command += [*host_policy_arguments(), *installation.arguments]
            if installation.backends:
                command.append(f"--backend-directory={_backends(installation, run_folder)}")
            if doors.mode == "ours":
                command.append(f"{MODE_OPTION}=explicit")
                command += [f"{LOAD_OPTION}={name}" for name in (["*"] if models is None else models)]
            self._remains = (shm_prefix, run_folder)
            environment = {**os.environ, **installation.environment}
            if traces_url:
                command += trace_arguments(traces_url)
                environment[TRACES_VARIABLE] = traces_url  # read by step_spans.py of models
            if shell := install_shell(run_folder / SHELL_FOLDER, shm_prefix):
                environment["PATH"] = os.pathsep.join([str(shell), environment.get("PATH", os.defpath)])
            self._start([*command, *arguments], doors, environment)
        except OSError as error:
            raise unwritable(error) from error
        if verified and doors.mode == "poll":
            every_s = _poll_interval_s(arguments)
            self._follower = threading.Thread(
                target=verified.follow, args=(self._ending, every_s), daemon=True
            )
            self._follower.start()

    def _start(self, command: Sequence[str], doors: Doors, environment: Mapping[str, str]) -> None:
        with contextlib.ExitStack() as ours:
            control_read, control_write = os.pipe()
            self._control = io.FileIO(control_write, "wb")
            log_read, log_write = os.pipe()
            ours.callback(os.close, control_read)
            ours.callback(os.close, log_write)
            log = ours.enter_context(open(self._log_file, "ab")) if self._log_file else None
            guard = [sys.executable, "-I", str(GUARD), str(control_read), str(log_write)]
            guard += [*map(str, self._remains), str(GRACE_S)]
            self._guard = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=log if log else _standard_error(),
                stderr=subprocess.STDOUT if log else None,
                env={**environment, "TRITON_VISION_SECRET_ARGUMENTS": "\n".join(doors.secret_arguments)},
                pass_fds=[control_read, log_write],
                start_new_session=True,  # Ctrl-C must reach us alone; we then stop the server in order
            )
        self.log = TritonLog(log_read)
        self.stub_records = self._remains[1] / SHELL_FOLDER
        self.processes = ModelProcesses(self._guard.pid, self.stub_records)

    @property
    def pid(self) -> int:
        """Process id of the guard, the parent of tritonserver."""
        return self._guard.pid

    def wait_until_live(self, deadline: float) -> None:
        """Raises `StartError` if it does not come up, `LoadFailure` if models that it loads are to blame."""
        self._wait(lambda: self.api.live() and self._listens(), deadline)

    def _listens(self) -> bool:
        """Is it this run that answers? Another server may have taken the port while models were loaded."""
        return listens(processes_of(self._remains[0]), self._http_port)

    def load(self, model: str, timeout_s: float, config: str | None = None) -> str:
        """Load one model; why it failed, "" if it did not.

        Raises `LoadFailure` if tritonserver ends or hangs, or the load does not end in time.

        A version that serves goes on until the new one does. config: JSON; "" for the model's own; None for
        that, too, but for the versions that it is held at, if it is. Once it was another one than its own
        (`overridden`), tritonserver takes its own up again only after its files have changed.

        Where models are verified, this one is, from the repository as it is now, and is else not loaded.
        """
        if self._verified:
            try:
                self._verified.take(model)
            except SignatureError as error:
                return str(error)
        if config is None:
            config = self._holds[model].load_config if model in self._holds else ""
        if config:
            self.overridden.add(model)
        deadline = time.monotonic() + timeout_s
        outcome: list[ServerError | None] = []

        def ask() -> None:
            try:
                self.api.load(model, timeout_s, config)
                outcome.append(None)
            except ServerError as error:
                outcome.append(error)

        threading.Thread(target=ask, daemon=True).start()
        self._wait(lambda: bool(outcome), deadline, {model})
        if isinstance(outcome[0], NoAnswerError):
            self._wait(lambda: False, time.monotonic() + GRACE_S, {model})  # until the guard has cleaned up
        return str(outcome[0] or "")

    def _wait(self, condition: Callable[[], bool], deadline: float, suspects: Set[str] = frozenset()) -> None:
        """`suspects` are to blame for a crash, or else what the log says is being loaded."""
        hanging = _HangingLoad(self.processes, self.log)
        while time.monotonic() < deadline:
            stop_if_told()
            if (status := self.wait(0)) is not None:
                if self._ending.is_set():
                    raise StartError("the server was stopped")
                why = self._quoted(self.log.last_words)
                message = f"tritonserver ended with status {status} while starting{why}"
                if status - EXIT_STATUS_OF_SIGNALS not in FAULTS:
                    raise StartError(message)
                fault = f"loading it ends tritonserver with status {status}"
                raise Crash(message, set(suspects or self.log.loading), fault)
            if condition():
                return
            self.processes.wake_stopped()
            self.processes.end_stopped()
            if models := hanging.models():
                message = f"a process of {' or '.join(sorted(models))} died while the model was loaded"
                raise Crash(message, models, "its process dies while it is loaded, and the load never ends")
            time.sleep(POLL_INTERVAL_S)
        late = "tritonserver was not live in time"
        advice = "is the machine busy, or a model very large? Allow more time with --start-timeout"
        loading = set(suspects or self.log.loading)
        if not loading:
            raise StartError(f"{late}; {advice}{self._quoted(self.log.last_words)}")
        still = f"still loading {', '.join(map(shown, sorted(loading)))}"  # of which the log tells no end
        fault = "its load did not end in time; --start-timeout allows more"
        raise TooLate(f"{late}, {still}; {advice}", loading, fault)

    def _quoted(self, words: Callable[[], str]) -> str:
        above = "; its log above says why"
        return above if self._shows_log else f"; from its log ({self._log_file}):\n{words()}"

    def ending(self) -> str:
        """How it ended by itself, with the end of its log; "" while it runs, and once it was told to stop."""
        if self._ending.is_set() or (status := self.wait(0)) is None:
            return ""
        return f"tritonserver ended by itself with status {status}{self._quoted(self.log.end)}"

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Exit status of tritonserver, 128 and the signal if one ended it; None after `timeout_s`."""
        try:
            # Never without end: that would hold the lock which `free_to_wait` looks at.
            status = self._guard.wait(threading.TIMEOUT_MAX if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired:
            return None
        if status < 0:  # the guard itself was killed
            _remove_remains(*self._remains)
        return status if status >= 0 else EXIT_STATUS_OF_SIGNALS - status

    def kill(self) -> int:
        """End it without draining requests."""
        self._tell(b"K")
        return self.stop()

    def stop(self) -> int:
        """Drain requests in flight, once it serves, and stop; returns the exit status.

        Safe to call twice, also at once.
        """
        self._ending.set()
        free_to_wait(self._guard)
        stuck = self.processes.stuck_models()
        self._tell(b"S" if self.serves else b"K")
        while (ended := self.wait(POLL_INTERVAL_S)) is None:
            self.processes.wake_stopped()
            models, times = self.log.left_at_stop
            if 0 < models <= stuck and times >= LEFT_TIMES:
                self.gave_up = True
                self._tell(b"K")  # only models are left that never end, as one of their processes was killed
        self._control.close()
        if self._follower:  # it may have written to the folder while the guard removed it
            self._follower.join(FOLLOWER_S)
            shutil.rmtree(self._remains[1], ignore_errors=True)
        return ended

    def _tell(self, what: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended; it was closed
            self._control.write(what)
        self._guard.send_signal(signal.SIGCONT)  # else one that was stopped would be awaited for ever


class _HangingLoad:
    """Finds a model whose process died while it was loaded, which tritonserver awaits for ever."""

    def __init__(self, processes: ModelProcesses, log: TritonLog):
        self._processes, self._log = processes, log
        self._before = processes.zombies().keys()
        self._since: dict[int, float] = {}
        self._looked = time.monotonic()

    def models(self) -> set[str]:
        """Models of which one hangs; none if none does."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return set()
        self._looked = now
        zombies = self._processes.zombies()
        self._since = {pid: self._since.get(pid, now) for pid in zombies.keys() - self._before}
        for pid, since in self._since.items():
            if now - since > HANGING_LOAD_S:
                suspects = {zombies[pid]} & self._log.loading if zombies[pid] else self._log.loading
                if suspects:
                    return set(suspects)
        return set()


def _poll_interval_s(arguments: Sequence[str]) -> float:
    """tritonserver's own, which refuses what is no number."""
    with contextlib.suppress(IndexError, ValueError):
        return max(0.1, float(option_values(arguments, POLL_OPTION)[-1]))
    return DEFAULT_POLL_S


def trace_arguments(url: str) -> list[str]:
    """Trace the requests that carry a traceparent, and no others: those are sampled whatever the rate is."""
    settings = ("mode=opentelemetry", "level=TIMESTAMPS", f"rate={HIGHEST_RATE}")
    exporter = (f"url={url}", f"bsp_schedule_delay={EXPORT_DELAY_MS}")
    return [
        *(f"--trace-config={setting}" for setting in settings),
        *(f"--trace-config=opentelemetry,{setting}" for setting in exporter),
    ]


def _listening(address: str, ports: Mapping[str, int]) -> Iterator[str]:
    """tritonserver's HTTP library knows IPv6 by a prefix, and its gRPC library by brackets."""
    for name, port in ports.items():
        written = bracketed(address) if name == "grpc" or not is_ipv6(address) else f"ipv6:{address}"
        yield f"--{name}-address={written}"
        yield f"--{name}-port={port}"


def _standard_error() -> int:
    """Its descriptor; that of the process where `sys.stderr` is none, as in a notebook."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError):
        return 2


def has_plain_grpc(arguments: Sequence[str]) -> bool:
    """Whether we can reach the gRPC port: the launcher has no certificate for one that speaks TLS."""
    tls = ("--grpc-use-ssl", "--grpc-use-ssl-mutual")
    speaks_tls = any(is_on(arguments, option, False) for option in tls)
    return is_on(arguments, "--allow-grpc", True) and not speaks_tls


def is_on(arguments: Sequence[str], option: str, by_default: bool) -> bool:
    """Whether `arguments` of tritonserver switch `option` on."""
    values = option_values(arguments, option)
    return values[-1].lower() not in ("false", "0") if values else by_default


def _backends(installation: Installation, run_folder: Path) -> Path:
    backends = run_folder / "backends"
    for name, target in installation.backends.items():
        (backends / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if target.is_dir() else shutil.copy2
        copy(target, backends / name)  # copies: Triton refuses a backend that links out of its folder
    if problem := install_native(*(backends / name for name in PYTHON_BACKENDS)):
        _say_once(f"triton-vision: {problem}. {COMPILER_ADVICE}")
    return backends


@functools.cache
def _say_once(text: str) -> None:
    """Not again at the next start."""
    print(text, file=sys.stderr)


def _remove_remains(shm_prefix: str, run_folder: Path) -> None:
    """What the guard does, for a guard that was killed."""
    for pid in processes_of(shm_prefix, inherited=True):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for segment in Path("/dev/shm").glob(f"{shm_prefix}*"):
        segment.unlink(missing_ok=True)
    shutil.rmtree(run_folder, ignore_errors=True)
