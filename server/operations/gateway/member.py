"""One tritonserver behind a gateway, with its supervisor and a status page of its own."""

import contextlib
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import NoAnswerError
from ...running.process import TritonServer
from ...watching.status_page import StatusPage
from ...watching.supervisor import Supervisor
from .settings import Upstream

__all__ = ["LOOPBACK", "Member", "elsewhere"]

LOOPBACK = "127.0.0.1"
IF_FREE = "~"  # in elsewhere.map: while these have room; any server else


@dataclass
class Member:
    """One tritonserver, once started. ended: its exit status.

    state: starting, joining, ready, candidate (of a rollout), draining or gone. absent: models that it lacks;
    see `Supervisor.tell_absent`. changing: models that it has, and others are to be asked for, if there are
    some.
    """

    slot: str
    server: TritonServer
    supervisor: Supervisor
    page: StatusPage
    state: str = "starting"
    ended: int | None = None
    absent: Mapping[str, bool] = field(default_factory=dict)
    changing: Collection[str] = ()
    _watch: threading.Thread | None = None

    def start(self) -> "Member":
        """Raises a `ServerError`; see `TritonServer`."""
        self.server.start()
        self.supervisor.starting = False
        self.supervisor.look_for_missing()
        self.page.__enter__()
        self._watch = threading.Thread(target=self._watched, daemon=True)
        self._watch.start()
        return self

    def _watched(self) -> None:
        self.ended = self.supervisor.watch()

    def stop(self) -> int | None:
        """Drain and stop; tritonserver's exit status. Safe to call twice, also at once."""
        status = self.server.stop()
        watch, self._watch = self._watch, None
        if watch:
            watch.join()
            self.page.__exit__()
        else:
            self.page.server_close()
        self.state = "gone"
        return status

    @property
    def upstream(self) -> Upstream:
        """Where the gateway finds it."""
        http, grpc = (int(url.rpartition(":")[2]) for url in (self.server.http_url, self.server.grpc_url))
        return Upstream(LOOPBACK, http, grpc, self.page.port)

    def lacks_of(self, other: "Member") -> str:
        """What this one could not load and the other serves, with the reasons; "" if nothing."""
        with contextlib.suppress(NoAnswerError):  # from one that has ended
            served = {model.name for model in other.server.models() if model.ready}
            missing = self.server.missing().items()
            return "; ".join(f"{name} ({why})" for name, why in missing if name in served)
        return ""

    def describe(self) -> dict[str, Any]:
        """What a page or a command tells of it."""
        return {
            "state": self.state if self.ended is None else "ended",
            "pid": self.server.pid,
            "http": f"http://{self.server.http_url}",
            "grpc": self.server.grpc_url,
            "metrics": self.server.metrics_url,
            "status": self.page.url,
            "restarts": self.supervisor.server_restarts,
        }


def elsewhere(members: Mapping[str, Member]) -> dict[str, str]:
    """Who is to be asked for the models that not all of these have, by model: see elsewhere.lua.

    Only those that are ready are asked; one that joins or is drained may be sent a request all the same.
    """
    ready = {slot for slot, member in members.items() if member.state == "ready"}
    absent = {slot: member.absent for slot, member in members.items()}
    changing = {slot: member.changing for slot, member in members.items()}
    entries = {}
    for model in sorted({model for models in [*absent.values(), *changing.values()] for model in models}):
        having = [slot for slot in absent if slot in ready and model not in absent[slot]]
        steady = [slot for slot in having if model not in changing[slot]]
        if len(having) == len(absent):
            if steady:
                entries[model] = IF_FREE + ",".join(steady)
        elif having or any(models.get(model) for models in absent.values()):
            entries[model] = ",".join(steady or having) or "-"
    complete = [slot for slot, models in absent.items() if slot in ready and not models]
    if entries and complete:  # for streams
        steady = [slot for slot in complete if not changing[slot]]
        all_have_all = IF_FREE if len(complete) == len(absent) else ""
        entries["*"] = all_have_all + ",".join(steady or complete)
    return entries
