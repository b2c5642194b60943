"""The launcher's own HTTP port: is everything served, and what had to be replaced.

    GET /ready      200, or 503 with what is missing; {"ready": false, "troubles": {"cnn": "..."}}
    GET /ready?wait=SECONDS     the same; while the server starts for the first time, once that is known
    GET /metrics    the same and the counters, for Prometheus

tritonserver's own readiness says yes while a model's process is dead, and while models are missing whose
configuration it refused; and it cannot count its own restarts.
"""

import contextlib
import json
import re
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar, Protocol

from ..environment.ports import choose_ports, is_ipv6, url

__all__ = ["StatusPage", "Watched"]

SLOWEST_CLIENT_S = 5.0
MOST_CLIENTS = 16  # at a time; further ones are hung up on
FRESH_S = 0.5  # asked more often, the same answer is given
WAIT = re.compile(r"(?:^|&)wait=(\d{1,5})(?:&|$)")
CONTENT_TYPE_OF_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Restarted(Protocol):
    """What counts how often it was started again."""

    @property
    def restarts(self) -> int:
        """Since the launcher's start."""


class Watched(Protocol):
    """Whom a page asks: a `Supervisor`, or whoever watches over several servers."""

    starting: bool

    @property
    def server_restarts(self) -> int:
        """Times that tritonserver ended and was started again."""

    @property
    def gateways(self) -> Mapping[str, Restarted]:
        """Other processes that are watched, by their names: "tfserving", "gateway"."""

    def troubles(self) -> dict[str, str]:
        """See `Supervisor.troubles`; so for the others."""

    def serves_despite(self, troubles: dict[str, str]) -> bool:
        """See there."""

    def never_exported(self) -> dict[str, str]:
        """See there."""

    def deaths(self) -> Counter[str]:
        """See there."""

    def restarts(self) -> Counter[str]:
        """See there."""


class StatusPage(socketserver.ThreadingMixIn, HTTPServer):
    """Serves while the context is open. Raises `PortInUseError`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, supervisor: Watched, address: str, port: int):
        self.supervisor = supervisor
        self.address_family = 10 if is_ipv6(address) else 2  # AF_INET6, AF_INET
        self._clients = threading.BoundedSemaphore(MOST_CLIENTS)
        self._lock = threading.Lock()
        self._told: tuple[float, dict[str, str]] = (float("-inf"), {})
        self.port = choose_ports(address, {"status": port})["status"]
        self.url = f"http://{url(address, self.port)}"
        super().__init__((address, self.port), StatusAnswer)

    def server_bind(self) -> None:
        """See `socketserver.TCPServer.server_bind`."""
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks a name server, too, who we are

    def __enter__(self) -> "StatusPage":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def troubles(self) -> dict[str, str]:
        """As `Supervisor.troubles`, up to `FRESH_S` seconds old."""
        with self._lock:
            asked, told = self._told
            if time.monotonic() - asked > FRESH_S:
                told = self.supervisor.troubles()
                self._told = (time.monotonic(), told)
            return told

    def wait(self, timeout_s: float) -> None:
        """Until the server has started, or will lack a model for certain; `timeout_s` at the longest."""
        deadline = time.monotonic() + timeout_s
        while (
            self.supervisor.starting and time.monotonic() < deadline and not self.supervisor.never_exported()
        ):
            time.sleep(FRESH_S)
        with self._lock:
            self._told = (float("-inf"), {})  # from before

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread; where `MOST_CLIENTS` are served already, the connection is closed instead."""
        if self._clients.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Makes room for the next client at its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._clients.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class StatusAnswer(BaseHTTPRequestHandler):
    """One request to a `StatusPage`; a client that is silent for `SLOWEST_CLIENT_S` is hung up on."""

    timeout = SLOWEST_CLIENT_S
    server: StatusPage
    server_version, sys_version = "triton-vision", ""
    pages: ClassVar[dict[str, str]] = {"/ready": "ready", "/serves": "serves", "/metrics": "metrics"}

    def do_GET(self) -> None:
        """/ready, in JSON: 200, or 503 with troubles; /metrics, for Prometheus: 200; 404 for other paths.

        /serves is for who chooses among servers: 503 only where no model is served at all.
        """
        path, _, query = self.path.partition("?")
        page = self.pages.get(path)
        if page is None:
            self._send(404, "text/plain", f"there is {', '.join(self.pages)}\n")
        elif page == "serves":
            troubles = self.server.troubles()
            serves = not troubles or self.server.supervisor.serves_despite(troubles)
            body = json.dumps({"serves": serves, "troubles": troubles})
            self._send(200 if serves else 503, "application/json", f"{body}\n")
        elif page == "ready":
            if waits := WAIT.search(query):
                self.server.wait(float(waits[1]))
            troubles = self.server.troubles()
            body = json.dumps({"ready": not troubles, "troubles": troubles})
            self._send(503 if troubles else 200, "application/json", f"{body}\n")
        else:
            self._send(200, CONTENT_TYPE_OF_METRICS, metrics(self.server.supervisor, self.server.troubles()))

    do_HEAD = do_GET

    def _send(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged of requests."""


def metrics(supervisor: Watched, troubles: dict[str, str]) -> str:
    """In Prometheus's text format, version 0.0.4."""

    def family(name: str, kind: str, about: str, values: dict[str, int]) -> list[str]:
        lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        return lines + [f"{name}{labels} {value}" for labels, value in values.items()]

    def by_model(counts: Counter[str]) -> dict[str, int]:
        return {f'{{model="{_label(name)}"}}': count for name, count in sorted(counts.items())}

    lines = family("triton_vision_ready", "gauge", "1 if every model is served", {"": int(not troubles)})
    lines += family(
        "triton_vision_tritonserver_restarts_total",
        "counter",
        "Times that tritonserver ended and was started again",
        {"": supervisor.server_restarts},
    )
    for name, gateway in supervisor.gateways.items():
        lines += family(
            f"triton_vision_{name}_restarts_total",
            "counter",
            f"Times that the gateway of --{name} ended and was started again",
            {"": gateway.restarts},
        )
    lines += family(
        "triton_vision_model_process_deaths_total",
        "counter",
        "Python processes of a model that died",
        by_model(supervisor.deaths()),
    )
    lines += family(
        "triton_vision_model_restarts_total",
        "counter",
        "Times that a model was loaded again because one of its processes had died",
        by_model(supervisor.restarts()),
    )
    return "\n".join(lines) + "\n"


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
