"""What listens at an address, where it is not what the client speaks.

tritonserver opens three ports, its launcher a fourth, and each answers clients of the others in its own,
unhelpful way.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress

from ..common.defaults import PORTS
from .address import Address

__all__ = ["other_port"]

PATIENCE_S = 2.0  # with a port that says nothing; an answer should be there in a millisecond
MOST_BYTES = 65536
METRICS_PORT, STATUS_PORT = 8002, 8003
HTTP2_SETTINGS = 4  # the type of the frame that an HTTP/2 server, and so gRPC, begins with


def other_port(address: Address, timeout_s: float) -> str | None:
    """A message that says what listens there and what to give instead; None if nothing else is recognised."""
    grpc, http = PORTS["grpc"], PORTS["http"]
    wanted = {"grpc": f"gRPC (usually {grpc})", "http": f"HTTP (usually {http})"}[address.protocol]
    found = _what_answers(address, min(timeout_s, PATIENCE_S) / 2)  # it is tried twice
    if found == "metrics":
        return (
            f"{address.url} is Triton's metrics port (usually {METRICS_PORT}), which answers no requests. "
            f"Give the port for {wanted}."
        )
    if found == "status":
        return (
            f"{address.url} is the launcher's status port (usually {STATUS_PORT}), which takes no requests. "
            f"Give the port for {wanted}."
        )
    if found == "tls":
        return (
            f"{address.url} speaks TLS, and you do not. Give {address.protocol}s://, or --ssl (ssl=True), "
            "with --root-certificates where its certificate is your own."
        )
    if found in ("grpc", "http") and found != address.protocol:
        names = {"grpc": "gRPC", "http": "HTTP"}
        return (
            f"{address.url} is Triton's port for {names[found]}, and you speak {names[address.protocol]}. "
            f"Give --protocol {found} (protocol='{found}'), or the port for {wanted}."
        )
    return None


def _what_answers(address: Address, timeout_s: float) -> str | None:
    """'metrics' or 'http' (Triton's), 'status' (the launcher's), 'grpc', 'tls', or None."""
    with suppress(OSError, ValueError):  # ssl.SSLError is an OSError
        answer = _get(address, "/metrics", timeout_s)
        if len(answer) > 9 and answer[:1] == b"\0" and answer[3] == HTTP2_SETTINGS:
            return "grpc"
        if answer.startswith(b"HTTP/1."):
            if b"triton_vision_ready" in answer:
                return "status"
            if b"nv_" in answer:
                return "metrics"
            if b'"extensions"' in _get(address, "/v2", timeout_s):
                return "http"
        elif address.tls is None and _speaks_tls(address, timeout_s):
            return "tls"
    return None


def _speaks_tls(address: Address, timeout_s: float) -> bool:
    """Whether it shakes hands; nothing is said to it, so it need not be trusted."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = _host_and_port(address)
    with socket.create_connection((host, port), timeout_s) as plain:
        context.wrap_socket(plain, server_hostname=host).close()
    return True


def _host_and_port(address: Address) -> tuple[str, int]:
    host, _, port = address.target.partition("/")[0].rpartition(":")
    return host.strip("[]"), int(port)


def _get(address: Address, path: str, timeout_s: float) -> bytes:
    """The first bytes that come back, raw."""
    end = time.monotonic() + timeout_s
    host, port = _host_and_port(address)
    with socket.create_connection((host, port), timeout_s) as plain:
        if address.tls:
            context = address.tls.context()
            context.set_alpn_protocols(["http/1.1", "h2"])
            connection: socket.socket = context.wrap_socket(plain, server_hostname=host)
        else:
            connection = plain
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        with suppress(OSError):  # reset, or nothing more within the time: what came says enough
            while len(answer) < MOST_BYTES and time.monotonic() < end:
                if not (data := connection.recv(MOST_BYTES)):
                    break
                answer += data
        return answer
