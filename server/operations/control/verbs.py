"""What every launcher does when it is asked: status, stop, reload."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from ...environment.holds import Holds
from ...errors import ServerError, StartError
from ...running.process import TritonServer
from ...watching.metrics import Watched
from .conversation import Client

__all__ = ["Answers", "Launcher"]

Answers = dict[str, Callable[[dict[str, Any], Client], dict[str, Any]]]


@dataclass
class Launcher:
    """A launcher that runs: where clients ask it, what it serves with which servers, and who watches them.

    changing: yields its servers, by name, none of which comes or goes meanwhile. aside: takes a server's name
    and a model's; within it others are asked for that model. describe: further facts. busy: why nothing may
    be reloaded now, or "". changed: called after models were. config: of a model as the repository has it, in
    JSON, for servers that do not take it up by themselves; None where it cannot be told.
    """

    port: int
    holds: Holds
    watched: Watched
    servers: Callable[[], Mapping[str, TritonServer]]
    changing: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    aside: Callable[[str, str], AbstractContextManager[object]] = lambda *_: contextlib.nullcontext()
    describe: Callable[[], dict[str, Any]] = dict
    busy: Callable[[], str] = str
    changed: Callable[[], None] = lambda: None
    config: Callable[[str], str] | None = None
    _one: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: dict[str, Any], client: Client, others: Answers) -> dict[str, Any]:
        """See `conversation.Control`. others: what this launcher does besides. Raises a `ServerError`."""
        answers: Answers = {"status": self.status, "stop": self.stop, "reload": self.reload, **others}
        do = request.get("do")
        if not isinstance(do, str) or do not in answers:
            raise StartError(f"a launcher does none of that, but {', '.join(answers)}")
        return answers[do](request, client)

    def status(self, *_: object) -> dict[str, Any]:
        """All that is known of it."""
        servers = {}
        for name, server in self.servers().items():
            with contextlib.suppress(ServerError):  # while it starts
                servers[name] = {
                    "pid": server.pid,
                    "http": f"http://{server.http_url}",
                    "grpc": server.grpc_url,
                    "metrics": server.metrics_url,
                }
        told: dict[str, Any] = {
            "port": self.port,
            "pid": os.getpid(),
            "repository": str(self.holds.repository),
            "gateway": None,
            "rollout": None,
            "servers": servers,
            **self.describe(),
        }
        held = {
            name: {"versions": hold.versions, "against": hold.against, "why": hold.why}
            for name, hold in self.holds.items()
        }
        return {**told, "models": self._models(), "held": held, "troubles": self.watched.troubles()}

    def _models(self) -> dict[str, dict[str, list[str]]]:
        """By model and version: on which servers it is ready."""
        found: dict[str, dict[str, list[str]]] = {}
        for name, server in self.servers().items():
            with contextlib.suppress(ServerError):
                for model in server.models():
                    if model.version:
                        ready = found.setdefault(model.name, {}).setdefault(model.version, [])
                        ready += [name] if model.ready else []
        return {
            model: {version: servers for version, servers in versions.items() if servers}
            for model, versions in found.items()
        }

    def stop(self, *_: object) -> dict[str, Any]:
        """As Ctrl-C does: after the requests in flight are answered."""
        os.kill(os.getpid(), signal.SIGTERM)
        return {"stopping": os.getpid()}

    def reload(self, request: dict[str, Any], client: Client) -> dict[str, Any]:
        """What the repository has, on one server after the other; old versions answer until new ones do.

        Without a name, all models but those that are held, and those that have gone from the repository are
        unloaded. Raises `StartError` where they are being reloaded already, or something else goes on.
        """
        if not self._one.acquire(blocking=False):
            raise StartError("models are being reloaded already")
        try:
            if why := self.busy():
                raise StartError(why)
            wanted = self._loadable()
            name = str(request.get("model") or "")
            if name and name not in wanted:
                raise StartError(
                    f"{self.holds.repository} has no model {name} to load; there are {', '.join(wanted)}"
                )
            names = [name] if name else [each for each in wanted if each not in self.holds]
            configs = {each: self.config(each) for each in names if self.config and self._is_overridden(each)}
            with self.changing():
                failed = self._load(names, configs, client)
                gone = [] if name else self._unload_others({*wanted}, client)
            self.changed()
        finally:
            self._one.release()
        return {
            "reloaded": [each for each in names if each not in failed],
            "unloaded": gone,
            "failed": failed,
            "held": [*self.holds],
        }

    def _loadable(self) -> list[str]:
        if not (servers := self.servers()):
            raise StartError("no server is ready to load models")
        return next(iter(servers.values())).loadable()

    def _is_overridden(self, model: str) -> bool:
        return any(model in server.run.overridden for server in self.servers().values())

    def _load(self, names: list[str], configs: Mapping[str, str], client: Client) -> dict[str, str]:
        failed = {}
        for each in names:
            for server_name, server in self.servers().items():
                if not server.run.can_load:
                    raise StartError("the model control mode that was chosen lets nobody load a model")
                client.tell({"loading": each, "server": server_name})
                run, config = server.run, ""
                with self.aside(server_name, each):
                    if each in run.overridden:
                        config = configs.get(each, "")
                        if not config:  # its requests are refused meanwhile
                            run.api.unload(each)
                    why = run.load(each, server.start_timeout_s, config)
                if why:
                    failed[each] = f"{server_name}: {why}"
                    break
            else:
                if each in self.holds:
                    self.holds.remove(each)
        return failed

    def _unload_others(self, wanted: set[str], client: Client) -> list[str]:
        gone = set()
        for server_name, server in self.servers().items():
            for name in sorted(server.run.api.loaded() - wanted):
                client.tell({"unloading": name, "server": server_name})
                server.run.api.unload(name)
                gone.add(name)
        return sorted(gone)
