"""One tritonserver behind a gateway, with its supervisor and a status page of its own."""

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...running.process import TritonServer
from ...watching.status_page import StatusPage
from ...watching.supervisor import Supervisor
from .settings import Upstream

__all__ = ["LOOPBACK", "Member"]

LOOPBACK = "127.0.0.1"


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
        """Drain and stop; tritonserver's exit status."""
        status = self.server.stop()
        if self._watch:
            self._watch.join()
            self.page.__exit__()
            self._watch = None
        else:
            self.page.server_close()
        self.state = "gone"
        return status

    @property
    def upstream(self) -> Upstream:
        """Where the gateway finds it."""
        http, grpc = (int(url.rpartition(":")[2]) for url in (self.server.http_url, self.server.grpc_url))
        return Upstream(LOOPBACK, http, grpc, self.page.port)

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
