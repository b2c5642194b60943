"""HAProxy's configuration, from `Settings`. Debian's 2.6 understands it, and so do newer ones.

It knows nothing of processes: it is text. What is looked up (keys, tenants, models of sequences) is in maps
beside it, which a running HAProxy takes up without a reload.
"""

from collections.abc import Iterable, Mapping

from ..keys import KEYS_MAP, TENANTS_MAP
from ..settings import MOST_SERVERS, Settings, Upstream
from .answers import GRPC_ERRORS, HTTP_ERRORS, Refusal
from .endpoints import ADMIN_ENDPOINTS, HTTP_ENDPOINTS, INFERENCE, MODEL_NAME, OF_MODEL, STREAM

__all__ = [
    "AUTHORITY",
    "BACKENDS",
    "ERRORS_FOLDER",
    "LUA_FOLDER",
    "METHODS_MAP",
    "OUTPUTS_MAP",
    "ROLLOUT_MAP",
    "ROLLOUT_SOCKET",
    "SEQUENCES_MAP",
    "render",
]

AUTHORITY = "triton_http"  # its servers are checked; those of the others follow them
BACKENDS = (AUTHORITY, "triton_grpc", "triton_stream")
ERRORS_FOLDER, LUA_FOLDER = "errors", "lua"
METHODS_MAP, SEQUENCES_MAP, OUTPUTS_MAP = "methods.map", "sequences.map", "outputs.map"
ROLLOUT_MAP, ROLLOUT_SOCKET = "rollout.map", "rollout.sock"
NOWHERE = "127.0.0.1:1"
SYSTEM_RESOLVER = "system"  # those of /etc/resolv.conf
MOST_HEADERS, HEADER_BYTES = 64, 16384
BODY_S = 20  # for a body to arrive
LONGEST_STOP_S = 120  # of a server, from its announcement on
LONGEST_S = 120  # for an answer, and for silence between two parts of it
STOP_S = 35  # as long as tritonserver drains
LOG = (  # JSON; what is no number is safe by its pattern or made so by json()
    '{"time":%Ts.%ms,"client":"%ci","tenant":"%[var(txn.tenant)]","kind":"%[var(txn.kind)]",'
    '"method":"%HM","endpoint":"%[var(txn.endpoint)]","model":"%[var(txn.model),json(utf8s)]",'
    '"version":"%[var(txn.version),json(utf8s)]","path":"%[var(txn.path),json(utf8s)]","status":%ST,'
    '"grpc_status":"%[var(txn.grpc_status)]","server":"%s","bytes_in":%U,"bytes_out":%B,"receive_ms":%TR,'
    '"queue_ms":%Tw,"connect_ms":%Tc,"server_ms":%Tr,"total_ms":%Ta,"retries":"%rc","ended":"%ts",'
    '"request_id":"%[var(txn.request_id)]","traceparent":"%[var(txn.traceparent)]"}'
)
REQUEST_ID = r"^[A-Za-z0-9_.:-]{1,128}$"
TRACEPARENT = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
TOKEN = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
CREDENTIALS = ("authorization", "x-api-key", "cookie", "triton-vision-key")
ALLOWED_HEADERS = (
    "authorization, content-type, x-api-key, x-request-id, traceparent, inference-header-content-length"
)

UNAUTHENTICATED = Refusal(401, 16, "no key that is known here; send it as x-api-key or as a bearer token")
FORBIDDEN = Refusal(403, 7, "only an admin may ask this")
NOT_FOUND = Refusal(404, 12, "there is nothing here; see /v2")
METHOD = Refusal(405, 12, "not by this method")
HEADERS = Refusal(431, 8, "the headers are too many or too large")
RATE = Refusal(429, 8, "more requests per second than this tenant may send", retry=True)
CONCURRENCY = Refusal(429, 8, "more requests at a time than this tenant may send", retry=True)
NO_SERVER = Refusal(503, 14, "no server is ready; ask again later", retry=True)
NO_MODEL = Refusal(404, 5, "no model has such a name")


def render(settings: Settings, servers: Mapping[str, Upstream]) -> str:
    """The whole file. servers: those of the slots s1 to s16 that are taken."""
    sections = [
        _global(settings),
        _defaults(settings),
        _tables(),
        _metrics(settings),
        _frontend(settings),
        *(_backend(name, settings, servers) for name in BACKENDS),
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
        f"maxconn {settings.connections}",
        f"hard-stop-after {STOP_S}s",
        f"tune.bufsize {settings.buffer_bytes}",
        f"tune.buffers.limit {settings.buffers}",
        f"tune.http.maxhdr {MOST_HEADERS}",
        "ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        f"setenv RULES_OUTPUTS {settings.folder / OUTPUTS_MAP}",
        f"setenv ROLLOUT_SOCKET {settings.folder / ROLLOUT_SOCKET}",
        f"setenv RULES_BODY_BYTES {settings.max_body_bytes}",
        f"lua-prepend-path {lua}/?.lua",
        f"lua-load-per-thread {lua}/rules.lua",
        f"lua-load-per-thread {lua}/sequences.lua",
        f"lua-load-per-thread {lua}/rollout.lua",
    ]


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
        *_error_files(settings, HTTP_ERRORS),
    ]


def _error_files(settings: Settings, files: Mapping[int, str]) -> list[str]:
    folder = settings.folder / ERRORS_FOLDER
    return [f"errorfile {status} {folder / name}" for status, name in files.items()]


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
        "backend sequences",
        "stick-table type string len 256 size 100k expire 1h",
    ]


def _metrics(settings: Settings) -> list[str]:
    address = f"{settings.metrics_address}:{settings.metrics_port}"
    return [
        "frontend metrics",
        f"bind {address}",
        "http-request use-service prometheus-exporter if { path /metrics }",
        "http-request return status 404",
    ]


def _frontend(settings: Settings) -> list[str]:
    tls = f" ssl crt {settings.certificate} alpn h2,http/1.1" if settings.certificate else ""
    bind = f"{settings.address}:{settings.port}"
    return [
        "frontend gateway",
        f"bind {bind}{tls}",
        "log stdout len 8192 format raw local0",
        f"log-format '{LOG}'",
        "tcp-request connection track-sc1 src table sources",
        f"tcp-request connection reject if {{ sc_conn_cur(1) gt {settings.connections // 2} }}",
        "",
        "# what it is, and under which id it is known",
        r"acl is_grpc req.hdr(content-type) -m reg ^application/grpc(\+proto)?$",
        "http-request set-var(txn.kind) str(http)",
        "http-request set-var(txn.kind) str(grpc) if is_grpc",
        "http-request set-var(txn.path) path,bytes(0,160)",
        *_identity("x-request-id", "request_id", REQUEST_ID),
        "http-request set-var(txn.request_id) uuid() unless { var(txn.request_id) -m found }",
        "http-request set-header x-request-id %[var(txn.request_id)]",
        *_identity("traceparent", "traceparent", TRACEPARENT),
        "http-request del-header traceparent unless { var(txn.traceparent) -m found }",
        *HEADERS.rules(f"{{ req.hdrs,length gt {HEADER_BYTES} }}"),
        *_origins(settings),
        "",
        "# asked without a key",
        "http-request return status 200 if { path /v2/health/live } METH_GET",
        f"http-request return status 200 if {{ path /v2/health/ready }} METH_GET {_all_up()}",
        *NO_SERVER.rules("{ path /v2/health/ready } METH_GET"),
        "",
        "# who asks",
        *_authentication(settings),
        "",
        "# for what",
        *_endpoints(settings),
        "",
        "# how much",
        "http-request track-sc0 var(txn.tenant) table tenants",
        "http-request set-var(txn.rate) var(txn.limits),field(1,|)",
        "http-request set-var(txn.concurrency) var(txn.limits),field(2,|)",
        *CONCURRENCY.rules("{ sc_conn_cur(0),sub(txn.concurrency) gt 0 }"),
        *RATE.rules("{ sc_gpc0_rate(0),sub(txn.rate) ge 0 }"),
        "http-request sc-inc-gpc0(0)",
        "",
        "# nothing else reaches a server",
        *(f"http-request del-header {name}" for name in CREDENTIALS),
        "http-request del-header triton-grpc-protocol- -m beg",
        "http-request set-uri %[path]",
        "",
        "# what it says: see rules.lua, which also looks at bodies as they pass",
        "filter lua.rules",
        "http-request lua.rules",
        *NOT_FOUND.rules("!{ var(txn.rules_protocol),strcmp(txn.kind) eq 0 }"),
        "",
        # a kept connection ends with its next answer, rather than between two requests
        "http-after-response set-header connection close if { stopping }",
        "http-after-response set-var(txn.grpc_status) res.hdr(grpc-status) "
        "if { res.hdr(grpc-status) -m found }",
        "http-after-response set-header content-type application/grpc "
        "if { res.hdr(grpc-status) -m found } !{ res.hdr(content-type) -m found }",
        "http-after-response set-header x-request-id %[var(txn.request_id)] "
        "if { var(txn.request_id) -m found }",
        f"use_backend triton_stream if {{ var(txn.endpoint) -m str {STREAM} }}",
        "use_backend triton_grpc if is_grpc",
        f"default_backend {AUTHORITY}",
    ]


def _all_up() -> str:
    """Each interface has a server; behind a resolver they find theirs by themselves."""
    return " ".join(f"{{ nbsrv({name}) gt 0 }}" for name in BACKENDS)


def _identity(header: str, name: str, pattern: str) -> list[str]:
    return [f"http-request set-var(txn.{name}) req.hdr({header}) if {{ req.hdr({header}) -m reg {pattern} }}"]


def _origins(settings: Settings) -> list[str]:
    if not settings.origins:
        return []
    known = f"{{ req.hdr(origin) -m str {' '.join(settings.origins)} }}"
    if_known = "if { var(txn.origin) -m found }"
    return [
        "",
        "# browsers, on pages of these origins",
        f"http-request set-var(txn.origin) req.hdr(origin) if {known}",
        "http-request return status 204 hdr access-control-allow-methods GET,\\ POST "
        f"hdr access-control-allow-headers {ALLOWED_HEADERS.replace(' ', chr(92) + ' ')} "
        "hdr access-control-max-age 600 "
        "if METH_OPTIONS { var(txn.origin) -m found } { req.hdr(access-control-request-method) -m found }",
        f"http-after-response set-header access-control-allow-origin %[var(txn.origin)] {if_known}",
        "http-after-response set-header access-control-expose-headers "
        f"'x-request-id, retry-after, inference-header-content-length' {if_known}",
        "http-after-response add-header vary Origin",
    ]


def _authentication(settings: Settings) -> list[str]:
    keys, tenants = settings.folder / KEYS_MAP, settings.folder / TENANTS_MAP
    lines = [
        "http-request set-var(txn.secret) http_auth_bearer if { req.hdr(authorization) -m found }",
        "http-request set-var(txn.secret) req.hdr(x-api-key) if { req.hdr(x-api-key) -m found }",
        f"http-request set-var(txn.tenant) var(txn.secret),sha2(256),hex,map_str({keys}) "
        "if { var(txn.secret) -m found }",
    ]
    if settings.tokens:
        lines += _tokens(settings)
    return [
        *lines,
        "http-request unset-var(txn.secret)",
        f"http-request set-var(txn.limits) var(txn.tenant),map_str({tenants}) "
        "if { var(txn.tenant) -m found }",
        *(
            [
                "http-request unset-var(txn.limits) "
                "if { var(txn.by) -m str token } !{ var(txn.limits),field(4,|) -m str jwt }"
            ]
            if settings.tokens
            else []
        ),
        "http-request unset-var(txn.tenant) unless { var(txn.limits) -m found }",
        *UNAUTHENTICATED.rules("!{ var(txn.limits) -m found }"),
        "http-request set-var(txn.admin) var(txn.limits),field(3,|)",
    ]


def _tokens(settings: Settings) -> list[str]:
    tokens = settings.tokens
    assert tokens
    verified = f'"{tokens.algorithm}","{tokens.secret or tokens.public_key}"'
    conditions = [
        "!{ var(txn.tenant) -m found }",
        f"{{ var(txn.secret) -m reg {TOKEN} }}",
        f"{{ var(txn.secret),jwt_header_query('$.alg') -m str {tokens.algorithm} }}",
        f"{{ var(txn.secret),jwt_verify({verified}) -m int 1 }}",
        "{ var(txn.expires),sub(txn.now) -m int gt 0 }",
        "{ var(txn.begins),sub(txn.now) -m int le 0 }",
    ]
    if tokens.audience:
        conditions.append(f"{{ var(txn.secret),jwt_payload_query('$.aud') -m str {tokens.audience} }}")
    if tokens.issuer:
        conditions.append(f"{{ var(txn.secret),jwt_payload_query('$.iss') -m str {tokens.issuer} }}")
    is_token = f"if {{ var(txn.secret) -m reg {TOKEN} }}"
    subject = "var(txn.secret),jwt_payload_query('$.sub')"
    return [
        "http-request set-var(txn.now) date()",
        "http-request set-var(txn.begins) int(0)",
        f"http-request set-var(txn.expires) var(txn.secret),jwt_payload_query('$.exp','int') {is_token}",
        f"http-request set-var(txn.begins) var(txn.secret),jwt_payload_query('$.nbf','int') {is_token}",
        f"http-request set-var(txn.by) str(token) if {' '.join(conditions)}",
        f"http-request set-var(txn.tenant) {subject} if {{ var(txn.by) -m str token }}",
    ]


def _endpoints(settings: Settings) -> list[str]:
    methods = f"path,map_str({settings.folder / METHODS_MAP})"
    lines = [f"http-request set-var(txn.endpoint) {methods} if is_grpc METH_POST"]
    for endpoint in HTTP_ENDPOINTS:
        path = f"{{ path_reg ^{endpoint.path}$ }}"
        lines.append(f"http-request set-var(txn.endpoint) str({endpoint.name}) if !is_grpc {path}")
    by_get = [endpoint.name for endpoint in HTTP_ENDPOINTS if endpoint.methods == "GET"]
    by_post = [endpoint.name for endpoint in HTTP_ENDPOINTS if endpoint.methods == "POST"]
    model = "if !is_grpc { path_beg /v2/models/ } { var(txn.endpoint) -m found }"
    return [
        *lines,
        *NOT_FOUND.rules("!{ var(txn.endpoint) -m found }"),
        METHOD.http_rule("!METH_GET !METH_POST"),
        METHOD.http_rule(f"!METH_GET {{ var(txn.endpoint) -m str {' '.join(by_get)} }}"),
        METHOD.http_rule(f"!METH_POST {{ var(txn.endpoint) -m str {' '.join(by_post)} }}"),
        f"http-request set-var(txn.model) path,field(4,/) {model}",
        f"http-request set-var(txn.version) path,field(6,/) {model} {{ path_sub /versions/ }}",
        *FORBIDDEN.rules(
            f"{{ var(txn.endpoint) -m str {' '.join(ADMIN_ENDPOINTS)} }} !{{ var(txn.admin) -m str admin }}"
        ),
    ]


def _backend(name: str, settings: Settings, servers: Mapping[str, Upstream]) -> list[str]:
    is_http, streams = name == AUTHORITY, name == "triton_stream"
    lines = [
        f"backend {name}",
        "balance leastconn",
        "http-reuse always",
        *([] if is_http else _error_files(settings, GRPC_ERRORS)),
        "acl is_grpc var(txn.kind) -m str grpc",
        f"acl is_inference var(txn.endpoint) -m str {' '.join(INFERENCE)}",
        *NO_SERVER.rules(f"{{ nbsrv({name}) eq 0 }} !{{ stopping }}"),  # which counts none, and has them
    ]
    if is_http or settings.resolver:
        page = "/serves" if all(server.status for server in servers.values()) else "/v2/health/ready"
        lines += ["option httpchk", f"http-check send meth GET uri {page} ver HTTP/1.1 hdr host gateway"]
    if not streams:
        lines.append(f"http-request wait-for-body time {BODY_S}s if METH_POST")
    if name == "triton_grpc":
        lines += [
            "http-request set-var(txn.model) req.body,ungrpc(1) if is_inference "
            f"{{ req.body,ungrpc(1) -m reg ^{MODEL_NAME}$ }}",
            "http-request set-var(txn.version) req.body,ungrpc(2) if is_inference "
            "{ req.body,ungrpc(2) -m reg ^[0-9]{1,19}$ }",
            *NO_MODEL.rules("is_inference !{ var(txn.model) -m found }"),
            f"acl is_of_model var(txn.endpoint) -m str {' '.join(OF_MODEL)}",
            "http-request set-var(txn.model) req.body,ungrpc(1) if is_of_model "
            f"{{ req.body,ungrpc(1) -m reg ^{MODEL_NAME}$ }}",
            "http-request set-var(txn.version) req.body,ungrpc(2) if is_of_model "
            "{ req.body,ungrpc(2) -m reg ^[0-9]{1,19}$ }",
        ]
    return [
        *lines,
        *([] if streams else [*_sequences(settings), *_rollout(settings)]),
        *(["retry-on conn-failure"] if streams else ["retry-on conn-failure empty-response"]),
        "retries 3",
        "option redispatch 1",
        *_servers(name, settings, servers),
    ]


def _sequences(settings: Settings) -> list[str]:
    """A sequence stays with the server that has its state, and no request of it is sent twice.

    One on a gRPC stream does so because the whole stream stays.
    """
    key = "%[var(txn.tenant)]|%[var(txn.model)]|%[var(txn.sequence)]"
    return [
        f"acl is_stateful var(txn.model),map_str({settings.folder / SEQUENCES_MAP}) -m found",
        "http-request lua.sequence if is_inference is_stateful",
        f"http-request set-var-fmt(txn.stick) {key} if is_inference is_stateful",
        "http-request disable-l7-retry if { var(txn.stick) -m found }",
        "stick on var(txn.stick) table sequences if { var(txn.stick) -m found }",
    ]


def _rollout(settings: Settings) -> list[str]:
    """A candidate's requests; once it has gone, they are any server's."""
    ours = "if { var(txn.rollout) -m found }"
    return [
        f"http-request set-var(txn.rollout) var(txn.model),map_str({settings.folder / ROLLOUT_MAP})",
        f"http-request lua.rollout {ours}",
        f"http-response lua.rollout_seen {ours}",
        "use-server %[var(txn.candidate)] if { var(txn.candidate) -m found }",
    ]


def _servers(name: str, settings: Settings, servers: Mapping[str, Upstream]) -> list[str]:
    """A line for each slot. Behind a name there may be several servers, and slots take an address each.

    Then slot 3 of two interfaces need not be one server, so each interface has checks of its own.
    """
    named = list(servers.values()) if settings.resolver else []
    lines = []
    for number in range(1, MOST_SERVERS + 1):
        slot = f"s{number}"
        upstream = named[(number - 1) % len(named)] if named else servers.get(slot)
        address = NOWHERE
        if upstream:
            address = upstream.at(upstream.http if name == AUTHORITY else upstream.grpc)
        protocol = "" if name == AUTHORITY else " proto h2"
        if name == AUTHORITY or named:
            port = f" port {upstream.status or upstream.http}" if upstream else ""
            checks = f"check{port} check-proto h1 inter 500ms fall 2 rise 1{'' if upstream else ' disabled'}"
        else:
            checks = f"track {AUTHORITY}/{slot}"
        resolve = " resolvers names init-addr none" if named else ""
        limit = f"maxconn {settings.per_server}{' weight 0' if upstream and upstream.candidate else ''}"
        lines.append(f"server {slot} {address} id {number}{protocol} {checks} {limit}{resolve}")
    return lines
