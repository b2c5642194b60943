"""Replace what dies of a running server: a model's process, and tritonserver itself.

Triton never replaces a Python process of a model that died: the requests that fall to it fail, and the model
counts as ready. Unloading the model and loading it again does replace it; other models do not notice.
"""

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..environment.place import advice_to_fill
from ..environment.repository import repository_models, unexported_models, with_dependents
from ..environment.signals import stop_if_told
from ..errors import NoAnswerError, RepositoryError, ServerError, StartError
from ..running.api import Batching
from ..running.model_processes import ModelProcess, exit_signal
from ..running.process import TritonServer
from ..running.run import TritonRun
from .gateway import TFServingGateway
from .probing import why_no_answer

__all__ = ["Supervisor"]

LIVE_WITHIN_S = 10.0  # a live tritonserver answers, however much it has to do
MISSING_S = 2.0  # between two looks for models that are not served
LOOK_S = 0.5  # a process counts as dead when two looks in a row find it so
MOST_RESTARTS, WINDOW_S = 5, 600.0  # of tritonserver
RESTART_DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0)
SOON_S = 10.0  # a process that dies so soon after its model was loaded will do so again
LONGEST_DELAY_S = 5.0  # before a model is loaded
LOAD_ATTEMPTS = 5  # while its load fails
REPOSITORY = "repository"  # a trouble, beside models
DRAIN_S = 30.0  # for the requests that neighbours of a dead process are at, as long as when the server stops


@dataclass
class _Model:
    """What happened to one model. trouble: why it does not serve, "" while it does.

    abandoned: nobody here replaces its dead processes; others may, by loading the model.
    """

    abandoned: bool = False
    deaths: int = 0
    restarts: int = 0
    soon: int = 0  # deaths in a row soon after a load
    loaded: float = float("-inf")
    trouble: str = ""


@dataclass
class Supervisor:
    """Watches a `TritonServer` that was started, while `watch()` runs.

    restart: replace what died; else a model's process is only told of, and tritonserver's end is the end.
    gateway: the one of `--tfserving`, once it serves; it is watched as well.
    starting: until all that it is to serve is served for the first time, which whoever starts it says.
    draining: it is about to be stopped, and says that it is not ready; requests are answered as before.
    tell_absent: takes the models that are not served as they should be, each with whether it is being loaded
        again; called before any is unloaded for that, which waits until it returns.
    """

    server: TritonServer
    restart: bool = True
    gateway: TFServingGateway | None = None
    server_restarts: int = 0
    starting: bool = True
    draining: bool = False
    tell_absent: Callable[[Mapping[str, bool]], None] | None = None
    _starting_again: bool = False
    _models: dict[str, _Model] = field(default_factory=dict)
    _mending: dict[str, TritonRun] = field(default_factory=dict)
    _restarted: list[float] = field(default_factory=list)
    _suspected: set[ModelProcess] = field(default_factory=set)
    _drained: list[tuple[float, list[ModelProcess]]] = field(default_factory=list)
    _missing: Set[str] = frozenset()
    _told: tuple[Set[str], Set[str]] = (frozenset(), frozenset())
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def watch(self) -> int:
        """Until tritonserver ends and is not started again; returns its exit status."""
        self.starting = False
        if not self.tell_absent:
            return self._watch()
        ended = threading.Event()
        # On its own: a tritonserver that hangs lets it wait.
        threading.Thread(target=self._follow_missing, args=(ended,), daemon=True).start()
        try:
            return self._watch()
        finally:
            ended.set()

    def _watch(self) -> int:
        told_so = False
        while True:
            stop_if_told()
            status = self.server.wait(LOOK_S)
            if self.draining and not told_so:
                told_so = True
                say("draining: not ready from now on; requests are answered until the stop")
            if self.gateway and (told := self.gateway.look()):
                say(told)
            if status is None:
                with contextlib.suppress(ServerError):  # it is ending, or busy: the next look tells
                    self._look_at_processes(self.server.run)
            elif self.server.stopped or (status := self._start_again(status)) is not None:
                return status

    @property
    def gateways(self) -> dict[str, TFServingGateway]:
        """By the name of the option that starts them."""
        return {"tfserving": self.gateway} if self.gateway else {}

    def exporters(self) -> dict[str, str]:
        """Where Prometheus reads of tritonserver, host:port by a name; nothing before it serves."""
        if self.starting:
            return {}
        return {"tritonserver": urlsplit(self.server.metrics_url).netloc}

    def never_exported(self) -> dict[str, str]:
        """Models that will not be served, however long one waits; known before anything is loaded."""
        with contextlib.suppress(ServerError):
            names = unexported_models(self.server.served_repository)
            unexported = {name: f"nothing to load; {advice_to_fill(name)}" for name in names}
            return {**unexported, **self.server.refused}
        return {}

    def stuck(self) -> str:
        """Why only a new start of the launcher helps; "" while it does not, or while something is started.

        A server that loads models, is full, or stops is not stuck.
        """
        if self.starting or self._starting_again or self.server.stopped:
            return ""
        try:
            self.server.run.api.request("GET", "/v2/health/live", LIVE_WITHIN_S)
        except ServerError as error:
            return str(error)
        return ""

    def no_answer(self, model: str) -> str:
        """Why this model answers no inference, to us or to others; "" if it does."""
        try:
            return why_no_answer(self.server.run.api, model)
        except ServerError as error:
            return str(error)

    def troubles(self) -> dict[str, str]:
        """What keeps the server from being ready; nothing if it is.

        By model, or "tritonserver", "repository" or "tfserving".
        """
        if self.draining:
            return {"tritonserver": "is draining: it will be stopped"}
        try:
            found = self.server.missing()
            if not found and not self._is_changing() and not self.server.run.api.ready():
                found = {} if self._is_changing() else {"tritonserver": "not ready"}
        except ServerError as error:
            if self.starting:
                return {"tritonserver": "is starting", **self.never_exported()}
            if not isinstance(error, RepositoryError):
                return {"tritonserver": str(error)}
            found = {REPOSITORY: str(error)}  # no model can be loaded; those that are serve
        if self.starting and not found:
            return {"tritonserver": "is starting"}
        if self.gateway and self.gateway.trouble:
            found = {**found, "tfserving": self.gateway.trouble}
        return {**found, **{name: model.trouble for name, model in self._models.items() if model.trouble}}

    def _is_changing(self) -> bool:
        """Whether a version comes or goes beside one that serves: tritonserver is not ready then, it says."""
        return any(model.state in ("LOADING", "UNLOADING") for model in self.server.models())

    def serves_despite(self, troubles: dict[str, str]) -> bool:
        """Whether these concern some models only, and others are served.

        One model that fails to load fails on every server alike: nothing is won by sending requests to none.
        """
        if self.starting or self._starting_again:  # then some models are only not loaded yet
            return False
        try:
            others = {REPOSITORY} if REPOSITORY in troubles else self.server.missing().keys()
            return troubles.keys() <= others | self._models.keys() and bool(self.server.run.api.loaded())
        except ServerError:
            return False

    def deaths(self) -> Counter[str]:
        """Processes that died, by model."""
        return Counter({name: model.deaths for name, model in self._models.items()})

    def restarts(self) -> Counter[str]:
        """How often each model was loaded again because one of its processes had died."""
        return Counter({name: model.restarts for name, model in self._models.items()})

    def batching(self) -> dict[str, Batching]:
        """Of the models that are served, by name. Raises `ServerError` where nothing answers."""
        api = self.server.run.api
        return {name: api.batching(name) for name in sorted(api.loaded())}

    # --- tritonserver

    def _start_again(self, status: int) -> int | None:
        """None if it runs again, else the exit status to end with."""
        self._mending, self._suspected, self._drained = {}, set(), []
        for model in self._models.values():
            model.trouble, model.abandoned = "", False
        say(f"tritonserver ended by itself with status {status}")
        self._starting_again = True
        told = ""
        while self.restart and not self.server.stopped:
            stop_if_told()
            now = time.monotonic()
            self._restarted = [then for then in self._restarted if now - then < WINDOW_S]
            count = len(self._restarted)
            if count == MOST_RESTARTS:
                say(f"it was started again {count} times in {WINDOW_S / 60:g} minutes: that is enough")
                break
            self._restarted.append(now)
            if not told:
                say(f"starting it again ({count + 1} of {MOST_RESTARTS} times in {WINDOW_S / 60:g} minutes)")
            time.sleep(RESTART_DELAYS_S[count])
            try:
                self.server.start_again()
            except RepositoryError as error:  # which does not count, as storage comes back
                self._restarted.pop()
                if not told:
                    say(told := f"{error}; tritonserver is started once it can be read")
                time.sleep(LOOK_S)
            except ServerError as error:
                self.server_restarts += not self.server.stopped
                say(str(error))
                status = self.server.wait(0) or status
            else:
                self.server_restarts += 1
                self._starting_again = False
                say(f"tritonserver serves again after {time.monotonic() - now:.1f} s")
                return None
        return status

    # --- processes of models

    def _look_at_processes(self, run: TritonRun) -> None:
        for process in run.processes.end_stopped():
            say(f"{process.instance}: process {process.pid} was stopped, so it is ended")
        for name in run.processes.wake_stopped():
            say(f"{name} was stopped, so it is told to go on")
        if run.processes.is_server_stopped():  # what it is asked would hold up the look that wakes it
            return
        dead = set(run.processes.dead())
        for name in sorted({process.model for process in dead & self._suspected}):
            if name not in self._mending:
                self._replace(run, name, [process for process in dead if process.model == name])
        self._suspected = dead
        self._tell_absent()
        for name, model in self._models.items():
            if model.abandoned and run.processes.living(name):
                model.abandoned, model.trouble = False, ""
                say(f"{name}: somebody has loaded it again")
        now = time.monotonic()
        for _, processes in (drained for drained in self._drained if drained[0] <= now):
            run.processes.end_retired(processes)
        self._drained = [drained for drained in self._drained if drained[0] > now]

    def _replace(self, run: TritonRun, name: str, dead: list[ModelProcess]) -> None:
        served = name in run.api.loaded()
        retired = run.processes.retire(name)
        if not served:
            return  # somebody is unloading it, or has
        model = self._models.setdefault(name, _Model())
        model.deaths += len(dead)
        for process in dead:
            number = exit_signal(process.pid)
            how = f"was killed by signal {number}" if number else "ended"
            say(f"{process.instance}: process {process.pid} of model {name} {how}")
        if not self.restart or not run.can_load:
            mode = "" if run.can_load else f": the model control mode {run.mode} lets nobody load a model"
            are = "is" if len(dead) == 1 else "are"
            model.abandoned = True
            model.trouble = f"{len(dead)} of {len(retired)} processes died, and {are} not replaced{mode}"
            say(f"{name}: {model.trouble}; restart the server")
            return
        now = time.monotonic()
        model.soon = model.soon + 1 if now - model.loaded < SOON_S else 0
        model.trouble = "a process died; the model is loaded again"
        self._mending[name] = run
        self._drained.append((now + DRAIN_S, retired))
        threading.Thread(target=self._mend, args=(run, name, model, now), daemon=True).start()

    # --- what others have to know of

    def _follow_missing(self, ended: threading.Event) -> None:
        """Models that failed to load, or that somebody unloaded, on this server."""
        while True:
            self.look_for_missing()
            if ended.wait(MISSING_S):
                return

    def look_for_missing(self) -> None:
        """Tell of what is not served now."""
        with contextlib.suppress(ServerError):
            models = self.server.models()
            ready = {model.name for model in models if model.ready}
            self._missing = {model.name for model in models} - ready
            self._tell_absent()

    def _tell_absent(self) -> None:
        if not self.tell_absent:
            return
        with self._telling:
            mending = {*self._mending}
            ailing = {name for name, model in list(self._models.items()) if model.trouble} | mending
            ailing |= self._missing | {process.model for process in self._suspected}
            if (ailing, mending) == self._told:
                return
            self._told = ailing, mending
            causes = {name: name for name in ailing}
            with contextlib.suppress(ServerError, OSError):  # of an ensemble: the model that it calls
                causes = with_dependents(repository_models(self.server.served_repository), ailing)
            self.tell_absent({name: cause in mending for name, cause in causes.items()})

    def _mend(self, run: TritonRun, name: str, model: _Model, died: float) -> None:
        self._tell_absent()
        try:
            self._wait_for_repository(run, name, model)
            trouble = self._load_again(run, name, model.soon)
        except (NoAnswerError, StartError) as error:
            if run.wait(0) is None:
                say(f"{name}: {error}; only a new start of tritonserver ends that")
                run.kill()
            return  # all is started again
        except ServerError as error:
            trouble = f"could not be unloaded: {error}"
        if self._mending.get(name) is not run:
            return
        model.trouble = trouble
        if trouble:
            say(f"{name}: {trouble}")
        else:
            model.restarts += 1
            model.loaded = time.monotonic()
            say(f"{name}: serves again {model.loaded - died:.1f} s after its process was found dead")
        del self._mending[name]
        self._tell_absent()

    def _wait_for_repository(self, run: TritonRun, name: str, model: _Model) -> None:
        """A model that was unloaded could not be loaded; its other processes answer until then.

        Raises `NoAnswerError`.
        """
        trouble = "a process died; the model is loaded again once the repository can be read"
        while run.wait(0) is None:
            try:
                run.api.index()
                return
            except RepositoryError as error:
                if model.trouble != trouble:
                    model.trouble = trouble
                    say(f"{name}: {trouble}: {error}")
            time.sleep(LOOK_S)

    def _load_again(self, run: TritonRun, name: str, delays: int) -> str:
        """What is wrong if the model could not be loaded, else ""."""
        run.api.unload(name)
        for attempt in range(LOAD_ATTEMPTS):
            waits = attempt + delays
            time.sleep(min(LONGEST_DELAY_S, 2.0 ** (waits - 2)) if waits else 0.0)
            reason = run.load(name, self.server.start_timeout_s)
            if not reason:
                return ""
        return f"could not be loaded again, {LOAD_ATTEMPTS} times: {reason}"


def say(text: str) -> None:
    """A line on standard error, with the time of day."""
    print(f"triton-vision: {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
