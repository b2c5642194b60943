"""The launcher's own HTTP port: is everything served, and what had to be replaced.

    GET /started    200 once the first start is over, whatever it serves; 503 before
    GET /live       200, or 503 with why only a new start of the launcher would help
    GET /ready      200, or 503 with what is missing; {"ready": false, "troubles": {"cnn": "..."}}
    GET /ready?wait=SECONDS     the same; while the server starts for the first time, once that is known
    GET /ready?infer=MODEL      the same, and the model has answered an inference just now
    GET /serves     200, or 503 where no model is served at all: for who chooses among servers
    GET /absent     models that it lacks, a line each, for gateways; where somebody tells it
    GET /metrics    whether it is ready, and the counters, for Prometheus
    GET /targets    where else Prometheus reads: tritonservers, a gateway; for its http_sd_configs
    /v1/traces, /traces         where traces are kept; see `traces.py`

tritonserver's own readiness says yes while a model's process is dead, and while models are missing whose
configuration it refused; and it cannot count its own restarts.
"""

import contextlib
import json
import re
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

from ..environment.ports import choose_ports, is_ipv6, url
from .absences import Absences
from .metrics import CONTENT_TYPE, ModelSettings, Watched, metrics
from .traces import MOST_BYTES, TraceStore

__all__ = ["StatusPage"]

SLOWEST_CLIENT_S = 5.0
MOST_CLIENTS = 16  # at a time; further ones are hung up on
FRESH_S = 0.5  # asked more often, the same answer is given
WAIT = re.compile(r"(?:^|&)wait=(\d{1,5})(?:&|$)")
PAGES = ("/started", "/live", "/ready", "/serves", "/metrics", "/targets")


class StatusPage(socketserver.ThreadingMixIn, HTTPServer):
    """Serves while the context is open. Raises `PortInUseError`.

    traces: kept here, where they are kept. absences: what gateways are told, where there are any to tell.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        supervisor: Watched,
        address: str,
        port: int,
        traces: TraceStore | None = None,
        absences: Absences | None = None,
    ):
        self.supervisor = supervisor
        self.traces, self.absences = traces, absences
        self.address_family = 10 if is_ipv6(address) else 2  # AF_INET6, AF_INET
        self._clients = threading.BoundedSemaphore(MOST_CLIENTS)
        self._lock = threading.Lock()
        self._told: tuple[float, dict[str, str]] = (float("-inf"), {})
        self._settings = ModelSettings(supervisor)
        self._probing = threading.Lock()  # one inference at a time, however many ask
        self._probed: tuple[float, str, dict[str, str]] = (float("-inf"), "", {})
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
                is_known = not self.supervisor.starting  # else it may be another moment already
                told = self.supervisor.troubles()
                self._told = (time.monotonic() if is_known else float("-inf"), told)
            return told

    def metrics(self) -> str:
        """For Prometheus; see `metrics`."""
        return metrics(self.supervisor, self.troubles(), self._settings.batching())

    def no_answer(self, model: str) -> dict[str, str]:
        """The model and why it answers no inference, or nothing; up to `FRESH_S` seconds old."""
        with self._probing:
            asked, name, told = self._probed
            if name != model or time.monotonic() - asked > FRESH_S:
                reason = self.supervisor.no_answer(model)
                told = {model: reason} if reason else {}
                self._probed = (time.monotonic(), model, told)
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

    def do_GET(self) -> None:
        """200, or 503 with the reason, in JSON or for Prometheus; 404 for other paths."""
        path, _, query = self.path.partition("?")
        if path.startswith("/traces") and self.server.traces:
            self._send_traces(self.server.traces, path.removeprefix("/traces").strip("/"))
            return
        supervisor = self.server.supervisor
        if path == "/started":
            self._say(not supervisor.starting, {"started": not supervisor.starting})
        elif path == "/live":
            stuck = supervisor.stuck()
            self._say(not stuck, {"live": not stuck, "trouble": stuck})
        elif path == "/ready":
            troubles = self._troubles(query)
            self._say(not troubles, {"ready": not troubles, "troubles": troubles})
        elif path == "/serves":
            troubles = self.server.troubles()
            serves = not troubles or supervisor.serves_despite(troubles)
            self._say(serves, {"serves": serves, "troubles": troubles})
        elif path == "/absent" and self.server.absences:
            self._send(200, "text/plain", self.server.absences.read(self.client_address[0]))
        elif path == "/metrics":
            self._send(200, CONTENT_TYPE, self.server.metrics())
        elif path == "/targets":
            exporters = supervisor.exporters().items()
            told = [{"targets": [where], "labels": {"slot": name}} for name, where in exporters]
            self._send(200, "application/json", json.dumps(told) + "\n")
        else:
            self._send(404, "text/plain", f"there is {', '.join(PAGES)}\n")

    do_HEAD = do_GET

    def _troubles(self, query: str) -> dict[str, str]:
        if waits := WAIT.search(query):
            self.server.wait(float(waits[1]))
        troubles = self.server.troubles()
        for model in [] if troubles else parse_qs(query).get("infer", []):
            troubles = {**troubles, **self.server.no_answer(model)}
        return troubles

    def _say(self, good: bool, told: dict[str, Any]) -> None:
        self._send(200 if good else 503, "application/json", f"{json.dumps(told)}\n")

    def _send_traces(self, traces: TraceStore, trace_id: str) -> None:
        told: dict[str, Any] = {"ids": traces.ids()}
        if trace_id:
            log = traces.gateway_log
            told = {"trace_id": trace_id, "spans": traces.spans(trace_id), "gateway_log": log}
        self._send(200, "application/json", json.dumps(told) + "\n")

    def do_POST(self) -> None:
        """/v1/traces: 200; 400 for what is no OTLP in JSON, 411, 413, 415 for its length or type; 404."""
        traces, length = self.server.traces, self.headers.get("Content-Length", "")
        self.close_connection = True  # what is refused is not read
        if traces is None or self.path != "/v1/traces":
            self._send(404, "text/plain", "traces are kept where the server was started with --trace\n")
        elif self.headers.get_content_type() != "application/json":  # which no page of others may send
            self._send(415, "text/plain", "OTLP in JSON: Content-Type application/json\n")
        elif not length.isdecimal():
            self._send(411, "text/plain", "give a Content-Length\n")
        elif int(length) > MOST_BYTES:
            self._send(413, "text/plain", f"{MOST_BYTES} bytes at most\n")
        else:
            try:
                traces.take(self.rfile.read(int(length)))
            except ValueError as error:
                self._send(400, "text/plain", f"{error}\n")
            else:
                self._send(200, "application/json", "{}\n")

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
