"""What a gateway is told: where it listens, whom it lets in, how much it takes, which servers it has."""

import os
import re
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...environment.ports import bracketed, is_loopback
from ...errors import ServerError

__all__ = ["DESCRIPTORS_PER_CLIENT", "MOST_SERVERS", "Settings", "SettingsError", "Tokens", "Upstream"]

MOST_SERVERS = 16  # slots in the configuration: servers come and go without a reload
SOCKET = "haproxy.sock"
SECRET = re.compile(r"[A-Za-z0-9_+/=.-]{32,256}")
CLAIM = re.compile(r"[A-Za-z0-9_:/@.~-]{1,200}")
ORIGIN = re.compile(r"https?://[A-Za-z0-9_.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
SAFE_PATH = re.compile(r"[A-Za-z0-9_./@+=,-]+")  # stands in the configuration as it is
KIB, MIB = 2**10, 2**20
BUFFER_MEMORY = 2 * 2**30
FEWEST_BUFFERS = 64
MOST_CONNECTIONS, FEWEST_CONNECTIONS = 2000, 100
DESCRIPTORS_BESIDE = 200  # listeners, checks, maps
# A client's own, and the connections to servers that HAProxy keeps for it alone (max-session-srv-conns).
DESCRIPTORS_PER_CLIENT = 1 + 5
PER_CORE, FEWEST_AT_A_TIME = 2, 4  # requests, of each interface
FEWEST_STREAMS = 16  # open at a time: each keeps its place for as long as it is open, busy or not


class SettingsError(ServerError):
    """A setting of the gateway cannot be."""


@dataclass(frozen=True)
class Tokens:
    """How tokens (JWT) are verified: by a shared secret (HS256) or a public key (RS256, a PEM file).

    audience, issuer: what `aud` and `iss` must be; "" asks for none. The claim `sub` names the tenant.
    """

    secret: str = ""
    public_key: str = ""
    audience: str = ""
    issuer: str = ""

    def __post_init__(self) -> None:
        if bool(self.secret) == bool(self.public_key):
            raise SettingsError("tokens are verified by a secret or by a public key; give one of the two")
        if self.secret and not SECRET.fullmatch(self.secret):
            raise SettingsError(
                "the secret of tokens has to be 32 to 256 of A-Z a-z 0-9 _ + / = . - ; "
                "`openssl rand -hex 32` makes one"
            )
        for name, claim in (("audience", self.audience), ("issuer", self.issuer)):
            if claim and not CLAIM.fullmatch(claim):
                raise SettingsError(
                    f"the {name} {claim!r} has characters other than A-Z a-z 0-9 _ : / @ . ~ -"
                )

    @property
    def algorithm(self) -> str:
        """The only one that is taken, whatever a token says of itself."""
        return "HS256" if self.secret else "RS256"


@dataclass(frozen=True)
class Upstream:
    """A tritonserver: its host and ports. status: its launcher's port; 0 asks itself whether it is ready.

    candidate: of a rollout, which gets only those requests that are sent to it by name.
    """

    host: str
    http: int
    grpc: int
    status: int = 0
    candidate: bool = False

    def at(self, port: int) -> str:
        """host:port."""
        return f"{bracketed(self.host)}:{port}"


@dataclass(frozen=True)
class Settings:
    """All that a configuration is made of.

    folder: where HAProxy finds the files that go with it. socket: where it makes that of its runtime API;
        None is in `folder`.
    address, port: for HTTP/1.1, HTTP/2 and gRPC alike. certificate: PEM file of the certificate and its key;
        "" is plain text, for a loopback address or behind something that speaks TLS.
    metrics_address, metrics_port: of the page for Prometheus.
    origins: of pages whose browsers may ask, as "https://example.org".
    max_body_bytes: of a request. buffer_bytes: what is kept of one, to send it again should its server die;
        larger ones are passed on as they come, and are lost then. It costs each request time and memory.
    concurrency: requests at a time for each server and interface; others wait `queue_ms`, then are refused.
    resolver: host:port of a name server that is asked for the servers' names again and again, "system" or "".
    asks_launchers: which models their servers lack, for want of one that tells it.
    """

    folder: Path
    address: str = "127.0.0.1"
    port: int = 8443
    metrics_address: str = "127.0.0.1"
    metrics_port: int = 8404
    certificate: str = ""
    tokens: Tokens | None = None
    origins: tuple[str, ...] = ()
    max_body_bytes: int = 16 * MIB
    buffer_bytes: int = 256 * KIB
    concurrency: int = 0
    queue_ms: int = 25
    resolver: str = ""
    socket: Path | None = None
    asks_launchers: bool = False

    def __post_init__(self) -> None:
        for path in (str(self.folder), self.certificate, self.tokens.public_key if self.tokens else ""):
            if path and not SAFE_PATH.fullmatch(path):
                raise SettingsError(
                    f"the path {path!r} has characters other than A-Z a-z 0-9 _ . / @ + = , -"
                )
        for origin in self.origins:
            if not ORIGIN.fullmatch(origin):
                raise SettingsError(
                    f"{origin!r} is no origin; write it as https://example.org, without a path"
                )
        if not KIB <= self.max_body_bytes <= 1024 * MIB:
            raise SettingsError("the largest body has to be 1 KiB to 1 GiB")
        if not 64 * KIB <= self.buffer_bytes <= 16 * MIB:
            raise SettingsError("the buffer of a request has to be 64 to 16384 KiB")
        if (self.address, self.port) == (self.metrics_address, self.metrics_port):
            raise SettingsError(
                f"port {self.port} cannot be the gateway's and its metrics'; see --gateway-metrics-port"
            )
        if self.concurrency < 0:
            raise SettingsError("the number of requests at a time has to be 1 or more")

    @property
    def runtime_socket(self) -> Path:
        """Of the runtime API."""
        return self.socket or self.folder / SOCKET

    @property
    def buffers(self) -> int:
        """How many of them there may be."""
        return max(FEWEST_BUFFERS, BUFFER_MEMORY // self.buffer_bytes)

    @property
    def per_server(self) -> int:
        """Requests at a time for each server."""
        return self.concurrency or max(FEWEST_AT_A_TIME, PER_CORE * (os.cpu_count() or 1))

    @property
    def streams_per_server(self) -> int:
        """gRPC streams open at a time for each server."""
        return max(FEWEST_STREAMS, self.per_server)

    @property
    def connections(self) -> int:
        """Of clients, at a time: as many as there are file descriptors for."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY:
            return MOST_CONNECTIONS
        most = (hard - DESCRIPTORS_BESIDE) // DESCRIPTORS_PER_CLIENT
        return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, most))

    def check_exposure(self) -> None:
        """Raises `SettingsError` where keys would cross a network in plain text."""
        if not (self.certificate or is_loopback(self.address)):
            raise SettingsError(
                f"{self.address} lets other machines in, and without TLS keys are read on the way: "
                "give --gateway-certificate and --gateway-certificate-key"
            )


def numbered(upstreams: Sequence[Upstream]) -> dict[str, Upstream]:
    """Slots by name: s1, s2, ... Raises `SettingsError` for more than there are."""
    if len(upstreams) > MOST_SERVERS:
        raise SettingsError(f"{len(upstreams)} servers are more than the {MOST_SERVERS} of one gateway")
    return {f"s{number}": upstream for number, upstream in enumerate(upstreams, 1)}
