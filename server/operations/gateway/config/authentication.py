"""Who asks: keys, and tokens (JWT), and what a tenant may."""

from ..keys import KEYS_MAP, TENANTS_MAP
from ..settings import Settings
from .answers import Refusal

__all__ = ["CREDENTIALS", "authentication"]

TIMES = "0:253402300799"  # to the end of the year 9999
TOKEN = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
CREDENTIALS = ("authorization", "x-api-key", "cookie", "triton-vision-key")
UNAUTHENTICATED = Refusal(401, 16, "no key that is known here; send it as x-api-key or as a bearer token")


def authentication(settings: Settings) -> list[str]:
    """Rules that set the tenant and its limits, and refuse whoever is none."""
    keys, tenants = settings.folder / KEYS_MAP, settings.folder / TENANTS_MAP
    lines = [
        "http-request set-var(txn.secret) http_auth_bearer if { req.fhdr(authorization) -m found }",
        "http-request set-var(txn.secret) req.fhdr(x-api-key) if { req.fhdr(x-api-key) -m found }",
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
    shaped = f"!{{ var(txn.tenant) -m found }} {{ var(txn.secret) -m reg {TOKEN} }}"
    signed = "{ var(txn.by) -m str signature }"
    conditions = [
        signed,
        f"{{ var(txn.secret),jwt_header_query('$.alg') -m str {tokens.algorithm} }}",
        f"{{ var(txn.expires) -m int {TIMES} }}",  # a negative number counts as a large one in 2.6
        f"{{ var(txn.begins) -m int {TIMES} }}",
        "{ var(txn.expires),sub(txn.now) -m int gt 0 }",
        "{ var(txn.begins),sub(txn.now) -m int le 0 }",
    ]
    if tokens.audience:
        conditions.append(f"{{ var(txn.secret),jwt_payload_query('$.aud') -m str {tokens.audience} }}")
    if tokens.issuer:
        conditions.append(f"{{ var(txn.secret),jwt_payload_query('$.iss') -m str {tokens.issuer} }}")
    subject = "var(txn.secret),jwt_payload_query('$.sub')"
    return [
        # Nothing of a token is read before its signature is known to be good: reading JSON has hung HAProxy.
        f"http-request set-var(txn.by) str(signature) if {shaped} "
        f"{{ var(txn.secret),jwt_verify({verified}) -m int 1 }}",
        "http-request set-var(txn.now) date()",
        f"http-request set-var(txn.begins) int(0) if {signed} "
        "!{ var(txn.secret),jwt_payload_query('$.nbf') -m found }",
        f"http-request set-var(txn.expires) var(txn.secret),jwt_payload_query('$.exp','int') if {signed}",
        f"http-request set-var(txn.begins) var(txn.secret),jwt_payload_query('$.nbf','int') if {signed}",
        f"http-request set-var(txn.by) str(token) if {' '.join(conditions)}",
        f"http-request set-var(txn.tenant) {subject} if {{ var(txn.by) -m str token }}",
    ]
