"""One rollout: the new version on a server of its own, then copies, a share, everybody; or all of it undone.

The fleet's servers keep the old version meanwhile, and it is held: whatever starts again serves it. A version
that ends its tritonserver ends the candidate alone, whose requests others answer.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...environment.holds import Hold, Holds
from ...environment.place import COMMAND
from ...environment.repository import model_versions, repository_models, with_dependents
from ...errors import NoAnswerError, ServerError, StartError
from ...running.process import TritonServer
from ...running.run import Crash
from ..gateway.config.endpoints import MODEL_NAME
from ..gateway.config.files import stateful_models
from ..gateway.config.names import ROLLOUT_SOCKET
from ..gateway.fleet import Fleet
from ..gateway.member import Member
from .evidence import Evidence
from .plan import Plan, PlanError
from .shadow import Shadow

__all__ = ["FAILED", "PROMOTED", "ROLLED_BACK", "Rollout", "served_versions"]

PROMOTED, ROLLED_BACK, FAILED = "promoted", "rolled back", "failed"
TICK_S, TELL_S = 0.1, 1.0
STEER_S = 30.0  # for a HAProxy that is being started again
CANCELLED, STOPPED = "it was cancelled", "the launcher was stopped"


class RolledBack(ServerError):
    """The new version will not do; the message says why."""


def served_versions(server: TritonServer, model: str) -> tuple[int, ...]:
    """Those that are ready, in ascending order. Raises `ServerError`."""
    return tuple(sorted(int(each.version) for each in server.models() if each.name == model and each.ready))


@dataclass
class Rollout:
    """plan: what is to be done with `fleet`, whose models are held in `holds`.

    tell: takes what happens, in numbers. cancelled: once set, it rolls back.
    """

    plan: Plan
    fleet: Fleet
    holds: Holds
    tell: Callable[[dict[str, Any]], None]
    cancelled: threading.Event
    stage: str = "checking"
    evidence: Evidence = field(default_factory=Evidence)
    _old: tuple[int, ...] = ()
    _models: dict[str, str] = field(default_factory=dict)
    _config: str = ""
    _new_config: str = ""
    _began: float = 0.0
    _deadline: float = 0.0

    def run(self) -> dict[str, Any]:
        """What it came to. Raises a `ServerError` where nothing was begun, as it cannot be."""
        self._old = self._check()
        self._hold(self._old, "a rollout has begun")
        try:
            self._try()
            outcome, reason = PROMOTED, ""
        except RolledBack as error:
            outcome, reason = ROLLED_BACK, str(error)
        except Exception as error:
            outcome, reason = FAILED, f"{error or type(error).__name__}"
        if outcome != PROMOTED:
            with contextlib.suppress(ServerError):
                self._hold(self._old, reason)
        self.stage = outcome
        return {"stage": outcome, "reason": reason, **self._numbers()}

    # --- before anything is changed

    def _check(self) -> tuple[int, ...]:
        """The versions that are served. Raises `PlanError`, or another `ServerError`."""
        plan, repository = self.plan, self.holds.repository
        members = self._ready()
        if not members or any(member.server.doors.mode != "ours" for member in members):
            raise PlanError(
                "the launcher itself has to load models; leave --model-control-mode and --load-model out"
            )
        models = members[0].server.loadable()
        if plan.model not in models:
            raise PlanError(f"{repository} has no model {plan.model} to load; there are {', '.join(models)}")
        self._find_models()
        if odd := [name for name in self._models if not re.fullmatch(MODEL_NAME, name)]:
            raise PlanError(f"the gateway lets nobody ask for a model with the name {odd[0]!r}; rename it")
        if plan.version not in (versions := model_versions(repository / plan.model)):
            has = ", ".join(map(str, versions))
            raise PlanError(
                f"{plan.model} has no version {plan.version} in {repository}, but {has}: put it there"
            )
        if unknown := [name for name in plan.through if name not in models]:
            raise PlanError(f"{repository} has no model {unknown[0]} to load, which --through names")
        if why := self._keeps_state():
            raise PlanError(why)
        if plan.record:
            try:
                Path(plan.record).mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise PlanError(f"{plan.record} cannot take what is recorded: {error.strerror}") from None
        served = {served_versions(member.server, plan.model) for member in members}
        if len(served) != 1:
            raise PlanError(
                f"not all servers serve the same versions of {plan.model}; `{COMMAND} reload {plan.model}`"
            )
        (old,) = served
        if not old:
            raise PlanError(
                f"{plan.model} is not served, so there is nothing to compare with; `{COMMAND} reload "
                f"{plan.model}`"
            )
        if plan.version <= old[-1]:
            raise PlanError(f"{plan.model} is served in version {old[-1]}, and {plan.version} is not newer")
        return old

    def _find_models(self) -> None:
        """Those whose requests count: each with the version by which they may name the new one."""
        names = {*self.plan.through}
        for repository in self.fleet.repositories():
            names |= with_dependents(repository_models(repository), {self.plan.model}).keys()
        version = str(self.plan.version)
        self._models = {name: version if name == self.plan.model else "" for name in sorted(names)}

    def _keeps_state(self) -> str:
        """Why such a model cannot be rolled out; "" if it can."""
        for repository in self.fleet.repositories():
            if stateful := sorted({*stateful_models(repository)} & self._models.keys()):
                return (
                    f"{stateful[0]} keeps state between the requests of a sequence, which no other version "
                    f"can go on with; `{COMMAND} reload {self.plan.model}` changes it at once, when none is "
                    "under way"
                )
        return ""

    def _hold(self, versions: tuple[int, ...], why: str) -> None:
        model = self.plan.model
        self._config = self._config or self._ready()[0].server.run.api.config(model)
        self.holds.hold(model, Hold(versions, self._config, self.plan.version, why))

    def _ready(self) -> list[Member]:
        return [member for member in list(self.fleet.members.values()) if member.state == "ready"]

    # --- the stages

    def _try(self) -> None:
        plan = self.plan
        self._enter("loading")
        try:
            with self.fleet.candidate(plan.model, self.cancelled) as candidate:
                self._is_served(candidate)
                self.fleet.admit_candidate(candidate)
                folder = self.fleet.gateway.settings.folder
                urls = (candidate.server.http_url, candidate.server.grpc_url)
                record = Path(plan.record) if plan.record else None
                with Shadow(folder / ROLLOUT_SOCKET, self._old_urls, urls, candidate.slot, record) as shadow:
                    try:
                        self._deadline = time.monotonic() + plan.timeout_s
                        self._watch(shadow.copied, candidate, "shadow", copied=plan.share)
                        if not plan.shadow:
                            self._watch(shadow.counted, candidate, "canary", share=plan.share)
                        self._steer(candidate, 0, 0)
                        self._promote()
                    finally:
                        self.fleet.gateway.rollout = {}
                        self._steer(None, 0, 0)
        except (RolledBack, NoAnswerError):
            raise
        except ServerError as error:
            if self.stage == "loading" and (self.cancelled.is_set() or self.fleet.stopping):
                raise RolledBack(STOPPED if self.fleet.stopping else CANCELLED) from error
            if self.stage == "loading":
                raise RolledBack(f"no server with the new version could be started: {error}") from error
            raise

    def _is_served(self, candidate: Member) -> None:
        plan = self.plan
        served = served_versions(candidate.server, plan.model)
        if plan.version not in served:
            told = [each for each in candidate.server.models() if each.name == plan.model]
            why = next(
                (each.reason for each in told if each.version == str(plan.version) and each.reason), ""
            )
            why = why or next((each.reason for each in told if each.reason), "")
            others = (
                f"its version_policy chooses {', '.join(map(str, served))}" if served else "it says not why"
            )
            raise RolledBack(f"version {plan.version} was not loaded: {why or others}")
        if served[-1] != plan.version:
            raise RolledBack(
                f"the repository has version {served[-1]} as well, which would be served in its place; roll "
                "that out, or take it away"
            )
        self._find_models()
        if why := self._keeps_state():
            raise RolledBack(why)
        self._new_config = candidate.server.run.api.config(plan.model)
        gone = [version for version in self.holds[plan.model].versions if version not in served]
        self._say(f"{plan.model} would be served in version {', '.join(map(str, served))}", leaves=gone)

    def _old_urls(self) -> list[tuple[str, str]]:
        return [(member.server.http_url, member.server.grpc_url) for member in self._ready()]

    def _watch(
        self, evidence: Evidence, candidate: Member, stage: str, share: float = 0.0, copied: float = 0.0
    ) -> None:
        self.evidence = evidence
        self._steer(candidate, share, copied)
        self._enter(stage)
        told = 0.0
        while True:
            self.cancelled.wait(TICK_S)
            now = time.monotonic()
            self._go_on(candidate, now)
            if now - told >= TELL_S:
                told = now
                self.tell(self._numbers())
            if self.evidence.enough(self.plan) and now - self._began >= self.plan.seconds:
                break
        self.tell(self._numbers())

    def _go_on(self, candidate: Member, now: float) -> None:
        """Raises `RolledBack` where it should not."""
        self._unless_cancelled()
        if candidate.ended is not None:
            raise RolledBack(f"the new version's tritonserver ended with status {candidate.ended}")
        if deaths := candidate.supervisor.deaths():
            raise RolledBack(f"a process of {', '.join(deaths)} died, on the new version's server")
        if why := self.evidence.against(self.plan):
            raise RolledBack(why)
        if now > self._deadline:
            old, new = self.evidence.old.requests, self.evidence.new.requests
            raise RolledBack(
                f"too few requests: in {self.plan.timeout_s:g} s {old} were answered by the old version and "
                f"{new} by the new one, and {self.plan.requests} by each are asked for; ask for fewer, or "
                "for a larger share, or see whether the new version answers at all"
            )

    def _unless_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise RolledBack(CANCELLED)

    def _steer(self, candidate: Member | None, share: float, copied: float) -> None:
        """Raises `NoAnswerError` if the gateway does not come back."""
        entries = {}
        if candidate:
            shares = f"{candidate.slot}|{round(share * 1000)}|{round(copied * 1000)}"
            entries = {model: f"{shares}|{version}" for model, version in self._models.items()}
        deadline = time.monotonic() + STEER_S
        while True:
            try:
                self.fleet.gateway.steer(entries)
                return
            except NoAnswerError:  # it reads the map when it is started again
                if time.monotonic() > deadline or self.fleet.gateway.process is None:
                    raise
                time.sleep(TICK_S)

    # --- the end

    def _promote(self) -> None:
        """One server after the other, in place: the old version answers until the new one does."""
        plan, done = self.plan, []
        self._enter("promoting")
        with self.fleet.changing() as members:
            try:
                for member in members:
                    self._unless_cancelled()
                    done.append(member)
                    self._change(member)
                    self._say(f"{member.slot} serves version {plan.version}")
                self._unless_cancelled()
                self.holds.remove(plan.model)
                for member in members:  # one that ended meanwhile was started again with what was held
                    if served_versions(member.server, plan.model)[-1:] != (plan.version,):
                        self._change(member)
            except ServerError as error:
                self._take_back(done)
                raise RolledBack(str(error)) from error
        with contextlib.suppress(ServerError):  # said at the next change of the keys
            self.fleet.gateway.reload_maps()

    def _change(self, member: Member) -> None:
        """To the new version. Raises a `ServerError`."""
        model, version = self.plan.model, self.plan.version
        run = member.server.run
        config = self._new_config if model in run.overridden else ""
        with self.fleet.aside(member.slot, model):
            why = run.load(model, member.server.start_timeout_s, config)
        if why:
            raise RolledBack(f"{member.slot} could not load version {version}: {why}")
        if served_versions(member.server, model)[-1:] != (version,):
            raise RolledBack(f"{member.slot} does not serve version {version} after its load")

    def _take_back(self, members: list[Member]) -> None:
        """To what is held. Raises `StartError` for a server that does not."""
        self._hold(self._old, "it could not be promoted")
        failed = []
        for member in members:
            with (
                contextlib.suppress(NoAnswerError, Crash),  # it is started again, with what is held
                self.fleet.aside(member.slot, self.plan.model),
            ):
                if why := member.server.run.load(self.plan.model, member.server.start_timeout_s):
                    failed.append(f"{member.slot} could not go back to what it served: {why}")
        if failed:
            raise StartError("; ".join(failed))

    # --- what is told

    def _enter(self, stage: str) -> None:
        self.stage, self._began = stage, time.monotonic()
        self.fleet.say(f"rollout of {self.plan.model} {self.plan.version}: {stage}")
        self.tell(self._numbers())

    def _say(self, text: str, **more: Any) -> None:
        self.tell({"stage": self.stage, "text": text, **more})

    def _numbers(self) -> dict[str, Any]:
        return {"stage": self.stage, **self.describe()}

    def describe(self) -> dict[str, Any]:
        """For a status."""
        return {
            "stage": self.stage,
            "model": self.plan.model,
            "version": self.plan.version,
            "share": self.plan.share,
            "cancelled": self.cancelled.is_set(),
            "asked": self.plan.requests,
            "seconds": round(time.monotonic() - self._began, 1) if self._began else 0.0,
            **self.evidence.describe(),
        }
