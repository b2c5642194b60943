"""What a request passes before it reaches a server: who asks, for what, how much, and what it says."""

from ..settings import Settings
from .answers import Refusal
from .authentication import CREDENTIALS, authentication
from .endpoints import ADMIN_ENDPOINTS, HTTP_ENDPOINTS, STREAM
from .names import AUTHORITY, BACKENDS, METHODS_MAP

__all__ = ["HEADER_BYTES", "NO_SERVER", "frontend"]

HEADER_BYTES = 16384
RULES_HEAD_BYTES = 2048  # of a message: all but its contents, of most
LOG = (  # JSON; what is no number is safe by its pattern or made so by json()
    '{"time":%Ts.%ms,"client":"%ci","tenant":"%[var(txn.tenant)]","kind":"%[var(txn.kind)]",'
    '"method":"%HM","endpoint":"%[var(txn.endpoint)]","model":"%[var(txn.model),json(utf8s)]",'
    '"version":"%[var(txn.version),json(utf8s)]","path":"%[var(txn.path),json(utf8s)]","status":%ST,'
    '"grpc_status":"%[var(txn.grpc_status)]","server":"%s","bytes_in":%U,"bytes_out":%B,"receive_ms":%TR,'
    '"queue_ms":%Tw,"connect_ms":%Tc,"server_ms":%Tr,"total_ms":%Ta,"retries":"%rc","ended":"%ts",'
    '"request_id":"%[var(txn.request_id)]","traceparent":"%[var(txn.traceparent)]"}'
)
REQUEST_ID = r"^[A-Za-z0-9_.:-]{1,128}$"
DEADLINE = r"^[1-9][0-9]{0,7}[HMSmun]$"  # of gRPC over HTTP/2
TRACEPARENT = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
ALLOWED_HEADERS = (
    "authorization, content-type, x-api-key, x-request-id, traceparent, inference-header-content-length"
)

ONCE = ("authorization", "x-api-key", "origin", "content-type")
FORBIDDEN = Refusal(403, 7, "only an admin may ask this")
NOT_FOUND = Refusal(404, 12, "there is nothing here; see /v2")
METHOD = Refusal(405, 12, "not by this method")
HEADERS = Refusal(431, 8, "the headers are too many or too large")
TWICE = Refusal(400, 3, "a header that may come once comes twice")
RATE = Refusal(429, 8, "more requests per second than this tenant may send", retry=True)
CONCURRENCY = Refusal(429, 8, "more requests at a time than this tenant may send", retry=True)
NO_SERVER = Refusal(503, 14, "no server is ready; ask again later", retry=True)


def frontend(settings: Settings) -> list[str]:
    """The section where clients come in."""
    tls = f" ssl crt {settings.certificate} alpn h2,http/1.1" if settings.certificate else ""
    bind = f"{settings.address}:{settings.port}"
    return [
        "frontend gateway",
        f"bind {bind}{tls}",
        f"maxconn {settings.connections}",
        "log stdout len 8192 format raw local0",
        f"log-format '{LOG}'",
        "tcp-request connection track-sc1 src table sources",
        f"tcp-request connection reject if {{ sc_conn_cur(1) gt {settings.connections // 2} }}",
        "",
        "# what it is, and under which id it is known",
        "http-request set-var(txn.kind) str(http)",
        "http-request set-var(txn.kind) str(grpc) "
        r"if { req.fhdr(content-type) -m reg ^application/grpc(\+proto)?$ }",
        "acl is_grpc var(txn.kind) -m str grpc",  # once for each rule: no regular expression
        "http-request set-var(txn.path) path,bytes(0,160)",
        *_identity("x-request-id", "request_id", REQUEST_ID),
        "http-request set-var(txn.request_id) uuid() unless { var(txn.request_id) -m found }",
        "http-request set-header x-request-id %[var(txn.request_id)]",
        *_identity("traceparent", "traceparent", TRACEPARENT),
        "http-request del-header traceparent unless { var(txn.traceparent) -m found }",
        *HEADERS.rules(f"{{ req.hdrs,length gt {HEADER_BYTES} }}"),
        *(rule for name in ONCE for rule in TWICE.rules(f"{{ req.fhdr_cnt({name}) gt 1 }}")),
        *_origins(settings),
        "",
        "# asked without a key",
        "http-request return status 200 if { path /v2/health/live } METH_GET",
        f"http-request return status 200 if {{ path /v2/health/ready }} METH_GET {_all_up()}",
        *NO_SERVER.rules("{ path /v2/health/ready } METH_GET"),
        "",
        "# who asks",
        *authentication(settings),
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
        f"http-request set-var(txn.rules_head) req.body,bytes(0,{RULES_HEAD_BYTES}) if is_grpc",
        "http-request lua.rules",
        *NOT_FOUND.rules("!{ var(txn.rules_protocol),strcmp(txn.kind) eq 0 }"),
        "",
        "# metadata that gRPC reads: if one is malformed it ends the connection, with the calls of others",
        "http-request set-var(txn.deadline) req.fhdr(grpc-timeout) if is_grpc",
        "http-request del-header grpc- -m beg if is_grpc",
        "http-request del-header -bin -m end if is_grpc",
        "http-request set-header grpc-timeout %[var(txn.deadline)] "
        f"if {{ var(txn.deadline) -m reg {DEADLINE} }}",
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
    """Looked at is what was taken: a header may come twice, and `req.hdr` takes a part of one with commas."""
    return [
        f"http-request set-var(txn.{name}) req.fhdr({header})",
        f"http-request unset-var(txn.{name}) unless {{ var(txn.{name}) -m reg {pattern} }}",
    ]


def _origins(settings: Settings) -> list[str]:
    if not settings.origins:
        return []
    known = f"{{ var(txn.origin) -m str {' '.join(settings.origins)} }}"
    if_known = "if { var(txn.origin) -m found }"
    return [
        "",
        "# browsers, on pages of these origins",
        "http-request set-var(txn.origin) req.fhdr(origin)",
        f"http-request unset-var(txn.origin) unless {known}",
        "http-request return status 204 hdr access-control-allow-methods GET,\\ POST "
        f"hdr access-control-allow-headers {ALLOWED_HEADERS.replace(' ', chr(92) + ' ')} "
        "hdr access-control-max-age 600 "
        "if METH_OPTIONS { var(txn.origin) -m found } { req.hdr(access-control-request-method) -m found }",
        f"http-after-response set-header access-control-allow-origin %[var(txn.origin)] {if_known}",
        "http-after-response set-header access-control-expose-headers "
        f"'x-request-id, retry-after, inference-header-content-length' {if_known}",
        "http-after-response add-header vary Origin",
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
