"""HAProxy's configuration, from `Settings`. Debian's 2.6 understands it, and so do newer ones.

It knows nothing of processes: it is text. What is looked up (keys, tenants, models of sequences) is in maps
beside it, which a running HAProxy takes up without a reload.
"""

from collections.abc import Iterable, Mapping

from ..settings import DESCRIPTORS_PER_CLIENT, MOST_SERVERS, Settings, Upstream
from .answers import HTTP_ERRORS, error_files
from .backends import backend, upstream_of
from .frontend import HEADER_BYTES, frontend
from .names import (
    BACKENDS,
    LUA_FOLDER,
    OUTPUTS_MAP,
    OWNERS_MAP,
    ROLLOUT_SOCKET,
    SEQUENCE_LIVES_S,
    SEQUENCES_TABLE,
    elsewhere_map,
)

__all__ = ["render"]

SYSTEM_RESOLVER = "system"  # those of /etc/resolv.conf
MOST_HEADERS = 64
HTTP2_WINDOW_BYTES = 65_535  # RFC 9113, 6.9.2
LONGEST_STOP_S = 120  # of a server, from its announcement on
LONGEST_S = 120  # for an answer, and for silence between two parts of it
STOP_S = 35  # as long as tritonserver drains


def render(settings: Settings, servers: Mapping[str, Upstream]) -> str:
    """The whole file. servers: those of the slots s1 to s16 that are taken."""
    sections = [
        [*_global(settings), *_absent(settings, servers)],
        _defaults(settings),
        _tables(),
        _metrics(settings),
        frontend(settings),
        *(backend(name, settings, servers) for name in BACKENDS),
    ]
    if settings.resolver:
        sections.insert(2, _resolvers(settings))
    return "\n\n".join(_section(lines) for lines in sections) + "\n"


def _section(lines: Iterable[str]) -> str:
    head, *rest = lines
    return "\n".join([head, *(f"    {line}" if line else "" for line in rest)])


def _global(settings: Settings) -> list[str]:
    lua = settings.folder / LUA_FOLDER
    return [
        "global",
        f"stats socket {settings.runtime_socket} mode 600 level admin",
        # HAProxy reserves two descriptors for each; how many clients there may be, the frontend says
        f"maxconn {settings.connections * DESCRIPTORS_PER_CLIENT // 2}",
        "noreuseport",  # two that were given one port would share its connections, and nobody be told
        f"hard-stop-after {STOP_S}s",
        f"tune.bufsize {settings.buffer_bytes}",
        f"tune.buffers.limit {settings.buffers}",
        f"tune.h2.initial-window-size {_window_bytes(settings)}",
        f"tune.http.maxhdr {MOST_HEADERS}",
        "ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        f"setenv RULES_OUTPUTS {settings.folder / OUTPUTS_MAP}",
        f"setenv RULES_OWNERS {settings.folder / OWNERS_MAP}",
        f"setenv ROLLOUT_SOCKET {settings.folder / ROLLOUT_SOCKET}",
        f"setenv RULES_BODY_BYTES {settings.max_body_bytes}",
        ".if version_atleast(3.1)",  # which warns that its default will be this
        "tune.lua.bool-sample-conversion normal",
        ".endif",
        f"lua-prepend-path {lua}/?.lua",
        f"lua-load-per-thread {lua}/rules.lua",
        f"lua-load-per-thread {lua}/sequences.lua",
        f"lua-load-per-thread {lua}/rollout.lua",
        f"lua-load-per-thread {lua}/elsewhere.lua",
    ]


def _absent(settings: Settings, servers: Mapping[str, Upstream]) -> list[str]:
    if not settings.asks_launchers:
        return []
    upstreams = (upstream_of(number, settings, servers) for number in range(1, MOST_SERVERS + 1))
    ports = " ".join(str(upstream.status if upstream else 0) for upstream in upstreams)
    tables = {name: settings.folder / elsewhere_map(name, asks_launchers=True) for name in BACKENDS}
    maps = " ".join(f"{name} {table}" for name, table in tables.items())
    return [
        f'setenv ABSENT_PORTS "{ports}"',
        f'setenv ABSENT_MAPS "{maps}"',
        f"lua-load {settings.folder / LUA_FOLDER}/absent.lua",
    ]


def _window_bytes(settings: Settings) -> int:
    """What an HTTP/2 stream may carry unasked: as much as a buffer has room for beside the headers.

    A request of more than HTTP/2's own 65,535 bytes would else wait for a window once or several times.
    """
    return max(HTTP2_WINDOW_BYTES, settings.buffer_bytes - HEADER_BYTES)


def _defaults(settings: Settings) -> list[str]:
    return [
        "defaults",
        "mode http",
        "option dontlognull",
        "timeout http-request 5s",
        "timeout http-keep-alive 75s",
        f"timeout client {LONGEST_S}s",
        "timeout connect 300ms",  # and the wait before the same server is tried again
        f"timeout queue {settings.queue_ms}ms",
        f"timeout server {LONGEST_S}s",
        "timeout check 3s",
        *error_files(settings, HTTP_ERRORS),
    ]


def _resolvers(settings: Settings) -> list[str]:
    system = settings.resolver == SYSTEM_RESOLVER
    return [
        "resolvers names",
        "parse-resolv-conf" if system else f"nameserver local {settings.resolver}",
        "resolve_retries 3",
        "timeout resolve 1s",
        "hold valid 5s",
        # A slot that is given to another server keeps its connections to the one before, which may still run.
        f"hold obsolete {LONGEST_STOP_S}s",
    ]


def _tables() -> list[str]:
    return [
        "backend tenants",
        "stick-table type string len 64 size 10k expire 10m store conn_cur,gpc0,gpc0_rate(1s)",
        "",
        "backend sources",
        "stick-table type ipv6 size 100k expire 1m store conn_cur",
        "",
        f"backend {SEQUENCES_TABLE}",
        f"stick-table type string len 256 size 100k expire {SEQUENCE_LIVES_S}s",
    ]


def _metrics(settings: Settings) -> list[str]:
    address = f"{settings.metrics_address}:{settings.metrics_port}"
    return [
        "frontend metrics",
        f"bind {address}",
        "http-request use-service prometheus-exporter if { path /metrics }",
        "http-request return status 404",
    ]
