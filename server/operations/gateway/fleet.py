"""Several tritonservers behind one gateway: started, watched, added, taken out, replaced one by one.

Each is what `python -m server` starts, with a supervisor and a status page of its own, on free ports of the
loopback address. A server that goes is drained at the gateway first, so no request is lost.
"""

import contextlib
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...environment.ports import url
from ...environment.repository import repository_models, with_dependents
from ...environment.signals import stop_if_told
from ...errors import NoAnswerError, ServerError, StartError
from ...running.api import Batching
from ...running.process import TritonServer
from ...watching.absences import ARRIVE_S
from ...watching.status_page import StatusPage
from ...watching.supervisor import Supervisor
from ...watching.supervisor import say as say_aloud
from .gateway import Gateway
from .member import LOOPBACK, Member, elsewhere
from .settings import MOST_SERVERS, Upstream

__all__ = ["DRAIN_S", "MOST_MEMBERS", "Fleet"]

MOST_MEMBERS = MOST_SERVERS - 1  # one slot is left for whoever takes over
DRAIN_S = 30.0  # for requests in flight, and sequences
UP_S = 30.0  # for the gateway to see a server that is ready
LOOK_S = 0.5
POLL_S = 0.05
ASKED = ("joining", "ready", "draining")  # states in which clients' requests may come


@dataclass
class Fleet:
    """gateway: in front, not started yet. make: a tritonserver on free ports of loopback, not started either.

    It has what a status page asks of a `Supervisor`, for all of its servers together.
    """

    gateway: Gateway
    make: Callable[[], TritonServer]
    restart_dead: bool = True
    drain_s: float = DRAIN_S
    say: Callable[[str], None] = say_aloud
    starting: bool = True
    draining: bool = False  # see `Supervisor`
    stopping: bool = False  # whatever is being changed is given up
    members: dict[str, Member] = field(default_factory=dict)
    candidates: dict[str, Member] = field(default_factory=dict)
    _changes: threading.Lock = field(default_factory=threading.Lock)
    _gone: Counter[str] = field(default_factory=Counter)
    _diverting: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.gateway.repositories = self.repositories

    def repositories(self) -> dict[Path, int]:
        """What each of its servers was given, with its `TritonServer.models_taken`; see `Gateway`."""
        found = {}
        for member in [*self.members.values(), *self.candidates.values()]:
            with contextlib.suppress(ServerError):  # one that is being started
                found[member.server.served_repository] = member.server.models_taken
        # one that ended took its copies
        return {path: taken for path, taken in found.items() if path.is_dir()}

    # --- start and stop

    def start(self, servers: int) -> None:
        """Start so many servers together, then the gateway. Raises a `ServerError`; nothing is left then."""
        try:
            self._add(servers)
            for member in self.members.values():
                member.state = "ready"
            self._divert()
            self.gateway.start({slot: member.upstream for slot, member in self.members.items()})
        except BaseException:
            self.stop()
            raise
        self.starting = False

    def stop(self) -> int:
        """The gateway first, which drains; then the servers. Returns the first exit status that is not 0."""
        self.stopping = True
        self.gateway.stop()
        statuses = self._stop_servers()
        with self._changes:  # what somebody was changing has been given up by then
            statuses += self._stop_servers()
            self.members, self.candidates = {}, {}
            self.gateway.stop()
        return next((status for status in statuses if status), 0)

    def _stop_servers(self) -> list[int | None]:
        members = [*self.members.values(), *self.candidates.values()]
        with ThreadPoolExecutor(max(1, len(members))) as threads:
            return list(threads.map(Member.stop, members))

    def watch(self) -> int:
        """Until all servers have ended and are not started again; returns an exit status."""
        while True:
            stop_if_told()
            self.gateway.look(self.say)
            members = list(self.members.values())
            if members and all(member.ended is not None for member in members):
                return next((member.ended for member in members if member.ended), 0)
            time.sleep(LOOK_S)

    def _add(
        self, count: int, candidate_for: str = "", cancelled: threading.Event | None = None
    ) -> list[Member]:
        among = self.candidates if candidate_for else self.members
        slots = (f"s{number}" for number in range(1, MOST_SERVERS + 1))
        free = [slot for slot in slots if slot not in {**self.members, **self.candidates}][:count]
        if len(free) < count:
            raise StartError(f"there are no {count} slots left of {MOST_SERVERS}")
        added = []
        for slot in free:
            server = self.make()
            if candidate_for:
                server.holds = {name: hold for name, hold in server.holds.items() if name != candidate_for}
            supervisor = Supervisor(server, restart=self.restart_dead and not candidate_for)
            added.append(Member(slot, server, supervisor, StatusPage(supervisor, LOOPBACK, 0)))
            if not candidate_for:
                supervisor.tell_absent = functools.partial(self._tell_absent, added[-1])
            among[slot] = added[-1]
        with ThreadPoolExecutor(count) as threads:
            outcomes = [threads.submit(member.start) for member in added]
            try:
                while wait(outcomes, POLL_S).not_done:
                    stop_if_told()
                    if self.stopping or (cancelled and cancelled.is_set()):
                        _break_off(added)
            except BaseException:  # the threads are waited for
                _break_off(added)
                raise
        if failed := [error for outcome in outcomes if (error := outcome.exception())]:
            for member in added:
                member.stop()
                del among[member.slot]
            raise failed[0]
        return added

    # --- change

    def scale(self, servers: int, cancelled: threading.Event | None = None) -> None:
        """To so many, but no further once `cancelled` is set.

        Raises a `ServerError`; those that serve by then go on.
        """
        if not 1 <= servers <= MOST_MEMBERS:
            raise StartError(f"{servers} servers cannot be; give 1 to {MOST_MEMBERS}")
        cancelled = cancelled or threading.Event()
        with self.changing():
            for slot in [slot for slot, member in self.members.items() if member.ended is not None]:
                self._dismiss(slot)
            # One after the other: those that serve need the processors, too.
            while len(self.members) < servers and not cancelled.is_set():
                self._admit(self._add(1, cancelled=cancelled))
            keep = sorted(self.members, key=lambda slot: len(self.members[slot].absent))[:servers]
            for slot in [slot for slot in self.members if slot not in keep]:
                if not cancelled.is_set():
                    self._dismiss(slot)

    def restart(self, slots: Iterable[str] = (), cancelled: threading.Event | None = None) -> None:
        """Replace each of these servers, or all, by a new one, which serves before the old one is drained.

        No further once `cancelled` is set. Raises a `ServerError` where a new one does not start; the old one
        goes on then.
        """
        with self.changing():
            chosen = list(dict.fromkeys(slots)) or list(self.members)
            if unknown := [slot for slot in chosen if slot not in self.members]:
                raise StartError(f"no server {unknown[0]}; there are {', '.join(self.members)}")
            for slot in chosen:
                if not (cancelled and cancelled.is_set()):
                    (new,) = self._add(1, cancelled=cancelled)
                    if lacks := new.lacks_of(self.members[slot]):
                        self._dismiss(new.slot)
                        raise StartError(
                            f"a new server could not load {lacks}; {slot} has it and goes on; mend it first"
                        )
                    self._admit([new])
                    self._dismiss(slot)

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[Member]]:
        """Its servers, none of which comes or goes meanwhile. Raises `StartError` if it stops by the end."""
        with self._changes:
            try:
                if not self.stopping:
                    yield list(self.members.values())
            except ServerError:
                if not self.stopping:
                    raise
            if self.stopping:
                raise StartError("the launcher is being stopped")

    @contextlib.contextmanager
    def candidate(self, model: str, cancelled: threading.Event | None = None) -> Iterator[Member]:
        """A server more, with `model` as the repository has it, that gets only requests sent to it by name.

        It has started, and gets none before `admit_candidate`; `Gateway.steer` sends them. cancelled: once
        set, its start ends. Raises a `ServerError`.
        """
        with self.changing():
            (member,) = self._add(1, model, cancelled)
        try:
            yield member
        finally:
            with self._changes:
                if member.slot in self.candidates:
                    self._dismiss(member.slot)

    def admit_candidate(self, member: Member) -> None:
        """Make it known to the gateway. Raises a `ServerError`."""
        with self.changing():
            self._admit([member], "candidate")

    def _admit(self, members: Sequence[Member], state: str = "ready") -> None:
        for member in members:
            member.state = "joining"
            self._divert()  # before it is asked for what it lacks
            try:
                self._put(member, replace(member.upstream, candidate=state == "candidate"))
            except ServerError:
                self._dismiss(member.slot)
                raise
            member.state = state
            self._divert()
            self.say(f"{member.slot} takes requests")
        with contextlib.suppress(ServerError):  # said at the next change of the file
            self.gateway.reload_maps()

    def _put(self, member: Member, upstream: Upstream) -> None:
        """Until the gateway sends it requests."""
        deadline = time.monotonic() + UP_S
        while member.ended is None and not self.stopping and time.monotonic() < deadline:
            with contextlib.suppress(NoAnswerError):  # from a HAProxy that is started again
                if member.slot not in self.gateway.servers:
                    self.gateway.put(member.slot, upstream)
                if self.gateway.runtime.is_up(member.slot):
                    return
            time.sleep(POLL_S)
        why = "; ".join(f"{name}: {why}" for name, why in member.supervisor.troubles().items())
        why = why or self.gateway.trouble or "see the log above"
        raise NoAnswerError(f"the gateway does not find {member.slot} ready ({why}), so it was stopped")

    def _dismiss(self, slot: str) -> None:
        among = self.members if slot in self.members else self.candidates
        member = among[slot]
        member.state = "draining"
        self._divert()
        with contextlib.suppress(NoAnswerError):  # a gateway that is started again finds no such server
            self.gateway.drain(slot, self.drain_s, lambda: self.stopping)
        with contextlib.suppress(ServerError):  # nor does it where a disk is full
            self.gateway.drop(slot)
        self._gone["restarts"] += member.supervisor.server_restarts
        member.stop()
        del among[slot]
        self._divert()
        self.say(f"{slot} was drained and has stopped")

    def _tell_absent(self, member: Member, models: Mapping[str, bool]) -> None:
        """Of a `Supervisor`: once it returns, no request for these models comes to the server any more."""
        member.absent = models
        self._divert_from(member)

    @contextlib.contextmanager
    def aside(self, slot: str, model: str) -> Iterator[None]:
        """Within, others are asked for the model and its ensembles while they have room; see 0057.

        tritonserver fails requests for a version that it has just begun to replace. Raises nothing itself.
        """
        member = self.members.get(slot)
        if not member:  # all are being stopped
            yield
            return
        member.changing = {model}
        try:
            with contextlib.suppress(ServerError, OSError):  # it is being started again: the model alone
                models = repository_models(member.server.served_repository)
                member.changing = with_dependents(models, {model})
            self._divert_from(member)
            yield
        finally:
            member.changing = ()
            self._divert()

    def _divert_from(self, member: Member) -> None:
        """Until what was sent before has arrived."""
        if self._divert():
            with contextlib.suppress(NoAnswerError):
                self.gateway.wait_until_idle(member.slot, ARRIVE_S)

    def _divert(self) -> bool:
        """Have the gateway ask for a model where there is one. Whether that is another place than before."""
        with self._diverting:
            entries = elsewhere(
                {slot: each for slot, each in list(self.members.items()) if each.state in ASKED}
            )
            if entries == self.gateway.elsewhere:
                return False
            with contextlib.suppress(ServerError):  # a HAProxy that is started again reads it
                self.gateway.divert(entries)
            return True

    # --- what a status page asks

    @property
    def server_restarts(self) -> int:
        """Of all servers, also of those that have gone."""
        present = list(self.members.values())
        return self._gone["restarts"] + sum(member.supervisor.server_restarts for member in present)

    @property
    def gateways(self) -> dict[str, Gateway]:
        """By the name of the option that starts them."""
        return {"gateway": self.gateway}

    def exporters(self) -> dict[str, str]:
        """As `Supervisor.exporters`, of all servers, by their slots, and the gateway."""
        settings = self.gateway.settings
        found = {"gateway": url(settings.metrics_address, settings.metrics_port)}
        for member in [*self.members.values(), *self.candidates.values()]:
            for where in member.supervisor.exporters().values():
                found[member.slot] = where
        return found

    def stuck(self) -> str:
        """As `Supervisor.stuck`: where none of the servers answers."""
        members = list(self.members.values())
        reasons = [member.supervisor.stuck() for member in members]
        return reasons[0] if reasons and all(reasons) else ""

    def no_answer(self, model: str) -> str:
        """As `Supervisor.no_answer`, of every server that is to serve."""
        members = [member for member in list(self.members.values()) if member.state == "ready"]
        reasons = ((member.slot, member.supervisor.no_answer(model)) for member in members)
        return next((f"{slot}: {reason}" for slot, reason in reasons if reason), "")

    def never_exported(self) -> dict[str, str]:
        """As `Supervisor.never_exported`."""
        return next((member.supervisor.never_exported() for member in list(self.members.values())), {})

    def troubles(self) -> dict[str, str]:
        """What does not serve of those that should: by server and model; "gateway"."""
        if self.draining:
            return {"gateway": "is draining: it will be stopped"}
        found = {}
        for member in list(self.members.values()):
            if member.state == "ready":
                for name, why in member.supervisor.troubles().items():
                    found[f"{member.slot}: {name}"] = why
        if self.starting:
            found["gateway"] = "is starting"
        elif self.gateway.trouble:
            found["gateway"] = self.gateway.trouble
        return found

    def serves_despite(self, troubles: dict[str, str]) -> bool:
        """As `Supervisor.serves_despite`, of any server."""
        supervisors = [member.supervisor for member in list(self.members.values())]
        found = [(supervisor, supervisor.troubles()) for supervisor in supervisors]
        if self.starting or self.draining or self.gateway.trouble:
            return False
        return any(not one or by.serves_despite(one) for by, one in found)

    def deaths(self) -> Counter[str]:
        """As `Supervisor.deaths`, of all servers."""
        return sum((member.supervisor.deaths() for member in list(self.members.values())), Counter())

    def restarts(self) -> Counter[str]:
        """As `Supervisor.restarts`, of all servers."""
        return sum((member.supervisor.restarts() for member in list(self.members.values())), Counter())

    def batching(self) -> dict[str, Batching]:
        """As `Supervisor.batching`, of any server: all have the same repository."""
        return next((member.supervisor.batching() for member in list(self.members.values())), {})

    def describe(self) -> dict[str, Any]:
        """The gateway and its servers, for a page or a command."""
        servers = {}
        for slot, member in [*self.members.items(), *self.candidates.items()]:
            with contextlib.suppress(ServerError):  # one that is being started
                servers[slot] = member.describe()
        return {"gateway": self.gateway.describe(), "servers": servers}


def _break_off(starting: list[Member]) -> None:
    """A model may take as long as --start-timeout to load."""
    with ThreadPoolExecutor(len(starting)) as threads:
        threads.map(lambda member: member.server.stop(), starting)
