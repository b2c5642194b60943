"""The gateway on this machine: its folder, its HAProxy, and the files that it follows while it runs."""

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...environment.ports import url
from ...errors import NoAnswerError, ServerError, StartError
from ..control.conversation import make_private
from .config.files import CONFIG_FILE, lookups, write, write_all, write_maps
from .config.names import ELSEWHERE_MAP, OWNERS_MAP, ROLLOUT_MAP
from .keys import read
from .process import HAProxy, find_haproxy
from .runtime import Runtime
from .settings import Settings, Upstream

__all__ = ["Gateway", "Pair"]

TLS_FILE = "tls.pem"
POLL_S = 0.05
POLL_SEQUENCES_S = 0.5  # HAProxy lists all that it knows


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and of its key, as PEM; key None where the first holds both."""

    certificate: Path
    key: Path | None = None

    def text(self) -> str:
        """Both, without empty lines. Raises `StartError`."""
        try:
            texts = [path.read_text() for path in (self.certificate, self.key) if path]
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"the certificate or its key cannot be read: {error}") from None
        return "".join(f"{line}\n" for text in texts for line in text.splitlines() if line.strip())


def _state(*files: Path | None) -> tuple[object, ...]:
    """Another one once one of the files is another."""
    states: list[object] = []
    for file in files:
        with contextlib.suppress(OSError):
            if file:
                found = file.stat()
                states.append((found.st_ino, found.st_mtime_ns, found.st_size))
    return tuple(states)


@dataclass
class Gateway:
    """HAProxy for `settings`, whose folder is made here and removed at the end.

    keys: the file of tenants. tls: certificate and key, or None. repositories: what servers were given to
    serve, each with a number that is another one once a model in it is; models are known by those alone.
    log: descriptor that takes the access log. restart: HAProxy, where it ends by itself.
    """

    settings: Settings
    keys: Path
    repositories: Callable[[], Mapping[Path, int]] = dict
    tls: Pair | None = None
    log: int = 2
    restart: bool = True
    servers: dict[str, Upstream] = field(default_factory=dict)
    rollout: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    _seen: tuple[object, ...] = ()
    _seen_tls: tuple[object, ...] = ()
    _seen_models: Mapping[Path, int] | None = None  # what HAProxy knows of; None: it has to be told again

    def __post_init__(self) -> None:
        self.runtime = Runtime(self.settings.runtime_socket)
        self.process: HAProxy | None = None

    @property
    def url(self) -> str:
        """Where clients ask, over HTTP."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{url(self.settings.address, self.settings.port)}"

    @property
    def trouble(self) -> str:
        """Why it does not serve; "" while it does."""
        return self.process.trouble if self.process else ""

    @property
    def restarts(self) -> int:
        """How often HAProxy was started again."""
        return self.process.restarts if self.process else 0

    def describe(self) -> dict[str, Any]:
        """What a page or a command tells of it."""
        settings = self.settings
        return {
            "url": self.url,
            "port": settings.port,
            "pid": self.process.pid if self.process else None,
            "socket": str(self.runtime.path),
            "metrics": f"http://{settings.metrics_address}:{settings.metrics_port}/metrics",
            "restarts": self.restarts,
            "trouble": self.trouble,
        }

    def start(self, servers: Mapping[str, Upstream]) -> None:
        """Serve, with these servers in their slots. Raises a `ServerError` that says what to do."""
        folder = self.settings.folder
        binary = find_haproxy()
        make_private(folder)
        self.servers = dict(servers)
        self._seen, self._seen_tls = _state(self.keys), self._tls_state()
        self._seen_models = self.repositories()
        write_maps(folder, self._lookups(self._seen_models))
        if self.tls:
            write(folder / TLS_FILE, self.tls.text())
        write_all(folder, self.settings, self.servers)
        config = folder / CONFIG_FILE
        self.process = HAProxy(binary, config, self.runtime, self.log, restart=self.restart)
        self.process.start()

    def stop(self) -> None:
        """Take nothing more, let requests in flight end, and leave nothing behind."""
        if self.process:
            self.process.stop()
        shutil.rmtree(self.settings.folder, ignore_errors=True)

    def put(self, slot: str, upstream: Upstream) -> None:
        """A server begins to take requests. Raises `NoAnswerError`."""
        self.runtime.place(slot, upstream)
        self.runtime.state(slot, "ready")
        self._remember({**self.servers, slot: upstream})

    def drain(self, slot: str, within_s: float, given_up: Callable[[], bool]) -> None:
        """Send a server nothing but its sequences, and wait for those and its requests, up to `within_s`.

        A sequence without a request for so long is not waited for. Raises `NoAnswerError`.
        """
        self.runtime.state(slot, "drain")
        owners = self.settings.folder / OWNERS_MAP
        deadline = time.monotonic() + within_s
        while not given_up() and time.monotonic() < deadline:
            if not self.runtime.in_flight(slot):
                if not self.runtime.sequences(slot, owners, within_s):
                    return
                time.sleep(POLL_SEQUENCES_S)
            time.sleep(POLL_S)

    def wait_until_idle(self, slot: str, within_s: float) -> None:
        """Until a server is at no request, but no longer. Raises `NoAnswerError`."""
        deadline = time.monotonic() + within_s
        while self.runtime.in_flight(slot) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def drop(self, slot: str) -> None:
        """A server that was drained takes none. Raises `NoAnswerError`."""
        self._remember({name: server for name, server in self.servers.items() if name != slot})
        self.runtime.state(slot, "maint")

    def _remember(self, servers: dict[str, Upstream]) -> None:
        """For a HAProxy that is started again."""
        self.servers = servers
        write_all(self.settings.folder, self.settings, servers)

    def look(self, say: Callable[[str], None]) -> None:
        """Replace HAProxy if it has ended; take up keys and certificates that changed."""
        if self.process and (told := self.process.look()):
            say(told)
        self._follow(say)

    def _follow(self, say: Callable[[str], None]) -> None:
        if (seen := _state(self.keys)) != self._seen:
            self._seen = seen
            self._say_what(self.reload_maps, f"keys of {self.keys} taken up", say)
        if (seen := self._tls_state()) != self._seen_tls:
            self._seen_tls = seen
            self._say_what(self._reload_tls, "certificate taken up", say)
        if self.process and self.repositories() != self._seen_models:
            with contextlib.suppress(ServerError):  # of a server that comes or goes: looked at once more
                self.reload_maps()

    def _say_what(self, action: Callable[[], None], done: str, say: Callable[[str], None]) -> None:
        try:
            action()
        except ServerError as error:
            say(f"the gateway goes on with what it had: {error}")
        else:
            say(done)

    def reload_maps(self) -> None:
        """Take up keys, and the models of sequences, as they are now. Raises a `ServerError`."""
        folder = self.settings.folder
        models = self.repositories()
        values = self._lookups(models)
        write_maps(folder, values)
        for name, entries in values.items():
            self.runtime.replace_map(folder / name, entries)
        self._seen_models = models

    def _lookups(self, models: Mapping[Path, int]) -> dict[str, dict[str, str]]:
        steered = {ROLLOUT_MAP: self.rollout, ELSEWHERE_MAP: self.elsewhere}
        return {**lookups(read(self.keys), list(models)), **steered}

    def steer(self, entries: Mapping[str, str]) -> None:
        """Which requests a candidate gets: what rollout.lua reads, by model. Raises a `ServerError`."""
        self.rollout = dict(entries)
        self._steer(ROLLOUT_MAP, self.rollout)

    def divert(self, entries: Mapping[str, str]) -> None:
        """Who has the models that not all servers have: what elsewhere.lua reads.

        Raises a `ServerError` where HAProxy does not answer, and tells it at the next `look`.
        """
        self.elsewhere = dict(entries)
        if self.process:
            seen, self._seen_models = self._seen_models, None
            self._steer(ELSEWHERE_MAP, self.elsewhere)
            self._seen_models = seen

    def _steer(self, name: str, entries: Mapping[str, str]) -> None:
        write_maps(self.settings.folder, {name: entries})  # for a HAProxy that is started again
        self.runtime.replace_map(self.settings.folder / name, entries)

    def _tls_state(self) -> tuple[object, ...]:
        return _state(self.tls.certificate, self.tls.key) if self.tls else ()

    def _reload_tls(self) -> None:
        assert self.tls
        file, text = self.settings.folder / TLS_FILE, self.tls.text()
        if (
            "ommitted" in (said := self.runtime.ask(f"set ssl cert {file} <<\n{text}"))
            or "created" not in said.lower()
        ):
            raise NoAnswerError(f"HAProxy does not take the certificate: {said}")
        if "Success" not in (said := self.runtime.ask(f"commit ssl cert {file}")):
            self.runtime.ask(f"abort ssl cert {file}")
            raise NoAnswerError(f"HAProxy does not take the certificate: {said}")
        write(file, text)
