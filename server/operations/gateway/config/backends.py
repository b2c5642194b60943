"""Which server gets a request, and when it is sent again."""

from collections.abc import Mapping

from ..settings import MOST_SERVERS, Settings, Upstream
from .answers import GRPC_ERRORS, Refusal, error_files
from .endpoints import INFERENCE, MODEL_NAME, OF_MODEL
from .frontend import NO_SERVER
from .names import AUTHORITY, ROLLOUT_MAP, SEQUENCES_MAP, SEQUENCES_TABLE, elsewhere_map

__all__ = ["backend", "upstream_of"]

NOWHERE = "127.0.0.1:1"
BODY_S = 20  # for a body to arrive
PREFIX_BYTES = 5  # of a message of gRPC
NAMES_BYTES = 512  # that the model's name and its version take at the most
NO_MODEL = Refusal(404, 5, "no model has such a name")
NOT_NOW = Refusal(503, 14, "the model is being loaded again; ask again later", retry=True)


def backend(name: str, settings: Settings, servers: Mapping[str, Upstream]) -> list[str]:
    """The section of one of `BACKENDS`; servers: by their slots."""
    is_http, streams = name == AUTHORITY, name == "triton_stream"
    lines = [
        f"backend {name}",
        "balance leastconn",
        # calls on one connection wait for each other: a client's own may, but not those of others
        f"http-reuse {'always' if is_http else 'never'}",
        *([] if is_http else error_files(settings, GRPC_ERRORS)),
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
            f"acl names_model var(txn.endpoint) -m str {' '.join((*INFERENCE, *OF_MODEL))}",
            *_of_message(),
            *NO_MODEL.rules("is_inference !{ var(txn.model) -m found }"),
        ]
    return [
        *lines,
        *([] if streams else [*_sequences(settings), *_rollout(settings)]),
        *_elsewhere(name, settings, streams),
        *(["retry-on conn-failure"] if streams else ["retry-on conn-failure empty-response"]),
        "retries 3",
        "option redispatch 1",
        *_servers(name, settings, servers),
    ]


def _of_message() -> list[str]:
    """The model and version that a message names, if they may be.

    `ungrpc` reads none of a message that the buffer does not hold as a whole. There the first bytes say it: a
    message is written in the order of its fields. Each look at `req.body` copies all of it, so this one comes
    only then.
    """
    lines = [
        "http-request set-var(txn.model) req.body,ungrpc(1) if names_model",
        f"http-request set-var(txn.head) req.body,bytes({PREFIX_BYTES},{NAMES_BYTES}) "
        "if names_model !{ var(txn.model) -m found }",
        "acl is_large var(txn.head) -m found",
        "http-request set-var(txn.model) var(txn.head),protobuf(1) if is_large",
        "http-request set-var(txn.version) req.body,ungrpc(2) if names_model !is_large",
        "http-request set-var(txn.version) var(txn.head),protobuf(2) if is_large",
    ]
    for variable, pattern in (("model", MODEL_NAME), ("version", "[0-9]{1,19}")):
        may_not_be = f"!{{ var(txn.{variable}) -m reg ^{pattern}$ }}"
        lines.append(f"http-request unset-var(txn.{variable}) if names_model {may_not_be}")
    return lines


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
        f"stick on var(txn.stick) table {SEQUENCES_TABLE} if {{ var(txn.stick) -m found }}",
    ]


def _rollout(settings: Settings) -> list[str]:
    """A candidate's requests; once it has gone, they are any server's."""
    ours = "if { var(txn.rollout) -m found }"
    return [
        f"http-request set-var(txn.rollout) var(txn.model),map_str({settings.folder / ROLLOUT_MAP})",
        f"http-request lua.rollout {ours}",
        f"http-response lua.rollout_seen {ours}",
    ]


def _elsewhere(name: str, settings: Settings, streams: bool) -> list[str]:
    """A model that a server lacks is asked of the others. A stream may ask for any: its server lacks none.

    `use-server` comes before `stick on` is looked at, so it is here that a sequence stays with its server.
    """
    lacking = "{ var(txn.served_by) -m found }"
    model = "str(*)" if streams else "var(txn.model)"
    table = settings.folder / elsewhere_map(name, asks_launchers=settings.asks_launchers)
    nobody = f"{lacking} !{{ var(txn.elsewhere) -m found }} !{{ var(txn.candidate) -m found }}"
    server_id = f"var(txn.stick),table_server_id({SEQUENCES_TABLE})"
    stays = f"http-request set-var(txn.stays) {server_id} if {lacking}"
    return [
        f"http-request set-var(txn.served_by) {model},map_str({table})",
        *([] if streams else [stays]),
        f"http-request lua.elsewhere if {lacking}",
        *([] if streams else NOT_NOW.rules(nobody)),
        "use-server %[var(txn.candidate)] if { var(txn.candidate) -m found }",
        "use-server %[var(txn.elsewhere)] if { var(txn.elsewhere) -m found }",
    ]


def upstream_of(number: int, settings: Settings, servers: Mapping[str, Upstream]) -> Upstream | None:
    """Of the slot with this number, from 1; behind names they take turns."""
    if settings.resolver and servers:
        return list(servers.values())[(number - 1) % len(servers)]
    return servers.get(f"s{number}")


def _servers(name: str, settings: Settings, servers: Mapping[str, Upstream]) -> list[str]:
    """A line for each slot. Behind a name there may be several servers, and slots take an address each.

    Then slot 3 of two interfaces need not be one server, so each interface has checks of its own.
    """
    named = bool(settings.resolver and servers)
    lines = []
    for number in range(1, MOST_SERVERS + 1):
        slot = f"s{number}"
        upstream = upstream_of(number, settings, servers)
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
        most = settings.streams_per_server if name == "triton_stream" else settings.per_server
        limit = f"maxconn {most}{' weight 0' if upstream and upstream.candidate else ''}"
        lines.append(f"server {slot} {address} id {number}{protocol} {checks} {limit}{resolve}")
    return lines
