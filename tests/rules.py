"""The gateway's rules for tests: in a Lua interpreter alone, and in HAProxy in front of a server."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.environment.ports import listens
from tests.ports import free_ports
from tests.processes import resident_bytes, wait_until

RULES = Path("server/operations/gateway/rules").resolve()
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
needs_haproxy = pytest.mark.skipif(not HAPROXY, reason="HAProxy is missing: apt-get install haproxy")
CONFIG = """
global
  nbthread 2
  maxconn 200
  {environment}
  lua-prepend-path {rules}/?.lua
  lua-load-per-thread {rules}/rules.lua
  tune.bufsize {bufsize}
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend http
  bind 127.0.0.1:{http}
  {lines}
  http-request deny unless {{ var(txn.rules_protocol) -m str http }}
  default_backend triton_http
frontend grpc
  bind 127.0.0.1:{grpc} proto h2
  {lines}
  http-request deny unless {{ var(txn.rules_protocol) -m str grpc }}
  default_backend triton_grpc
backend triton_http
  server one {triton_http}
backend triton_grpc
  retry-on conn-failure empty-response
  server one {triton_grpc} proto h2
"""
LINES = """filter lua.rules
  acl STREAM path_end /ModelStreamInfer
  http-request wait-for-body time 10s if { req.hdr(content-type) -m beg application/grpc } !STREAM
  http-request set-var(txn.rules_head) req.body,bytes(0,2048)
  http-request lua.rules
  http-request wait-for-body time 10s unless STREAM"""


class Gateway:
    """HAProxy with the rules, running; `pid` is the process that serves."""

    def __init__(self, pid: int, http_url: str, grpc_url: str, log: Path):
        self.pid, self.http_url, self.grpc_url, self.log = pid, http_url, grpc_url, log

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)


@contextlib.contextmanager
def gateway(
    http_url: str, grpc_url: str, outputs: str, lines=LINES, bufsize=16384, **settings
) -> Iterator[Gateway]:
    """In front of a server's two ports. outputs: lines of the table; settings: `body_bytes` and its like."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("outputs.map", "owners.map", "haproxy.cfg", "log")
        table, owners, config, log = (Path(folder) / name for name in names)
        table.write_text(outputs)
        owners.touch()
        settings = {"outputs": table, "owners": owners, **settings}
        environment = "\n  ".join(f'setenv RULES_{key.upper()} "{value}"' for key, value in settings.items())
        ports = free_ports("http", "grpc")
        config.write_text(
            CONFIG.format(
                environment=environment, rules=RULES, bufsize=bufsize, lines=lines,
                triton_http=http_url, triton_grpc=grpc_url, **ports,
            )
        )  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen([HAPROXY, "-db", "-f", str(config)], stdout=output, stderr=output)
        try:
            wait_until(lambda: process.poll() is not None or listens([process.pid], ports["grpc"]))
            assert process.poll() is None, log.read_text()
            yield Gateway(process.pid, f"127.0.0.1:{ports['http']}", f"127.0.0.1:{ports['grpc']}", log)
            assert process.poll() is None, f"HAProxy ended: {log.read_text()}"
        finally:
            process.kill()
            process.wait()


def pieces_of(body: bytes) -> Iterator[list[bytes]]:
    """The body whole, cut in two at every place, and as single bytes."""
    yield [body]
    yield [body[at : at + 1] for at in range(len(body))]
    for at in range(1, len(body)):
        yield [body[:at], body[at:]]


class Lua:
    """The rules in a Lua 5.3 of their own. classes: (model, output) that may be asked for classes."""

    def __init__(self, classes=frozenset(), shared_memory=False, **limits):
        lua53 = pytest.importorskip("lupa.lua53", reason="lupa is missing: make setup")
        self.runtime = lua53.LuaRuntime(encoding=None)
        self.runtime.execute(b"package.path = '%s/?.lua'" % bytes(RULES))
        known = {tuple(name.encode() for name in pair) for pair in classes}
        limits = {
            "body_bytes": 2**24, "json_bytes": 2**23, "head_bytes": 2**18, "small_bytes": 2**16,
            "most_depth": 32, "most_elements": 2**24, **limits,
        }  # fmt: skip
        self.rules = self.runtime.table_from(
            {
                b"has_classes": lambda model, output: (model, output) in known,
                b"shared_memory": shared_memory,
                b"claim": self._claim,
                **{name.encode(): value for name, value in limits.items()},
            }
        )
        self.json_text, self.grpc_messages, self.requests = (
            self.runtime.eval(b"(require('%s'))" % name)
            for name in (b"json_text", b"grpc_messages", b"requests")
        )
        self.claims = []
        self.feed = self.runtime.eval(
            b"""function(reader, ...)
                for _, piece in ipairs({...}) do
                  local wrong = reader:feed(piece)
                  if wrong then return wrong[1] end
                end
                local wrong = reader:finish()
                return wrong and wrong[1] or nil
            end"""
        )

    def json(self, pieces, model):
        """The kind of what is wrong with the JSON of a model's request, or any other; None if nothing."""
        return self._fed(self.json_text[b"new"](self.rules, model and model.encode()), pieces)

    def body(self, pieces, model):
        """The same of an inference request's whole body over HTTP, all of it JSON."""
        size = sum(map(len, pieces))
        plan = {b"protocol": b"http", b"model": model.encode(), b"length": size, b"json_bytes": size}
        plan[b"tenant"] = b"alice"
        return self._fed(self.requests[b"reader"](self.rules, self.runtime.table_from(plan)), pieces)

    def grpc(self, pieces, infers=True, streams=False, most_bytes=2**24, tenant=b"alice"):
        """The same of a gRPC call."""
        return self._fed(self.grpc_messages[b"new"](self.rules, infers, streams, most_bytes, tenant), pieces)

    def _claim(self, tenant, sequence, ends):
        """Nobody has any of them."""
        self.claims.append((tenant, sequence, ends))

    def _fed(self, reader, pieces):
        return self.feed(reader, *pieces)
