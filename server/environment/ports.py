"""Addresses and ports to listen on: those asked for, or any free ones; and how they are written."""

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..errors import PortInUseError

__all__ = [
    "bracketed",
    "choose_ports",
    "claimed",
    "held",
    "is_address",
    "is_ipv6",
    "is_loopback",
    "listens",
    "port_is_free",
    "url",
]

ADVICE = "stop what uses it, or choose another port (0 takes any free one)"
LISTENING = "0A"  # TCP_LISTEN of the kernel's tcp_states.h, as /proc/net/tcp has it


def choose_ports(address: str, asked: Mapping[str, int]) -> dict[str, int]:
    """A free port for each entry: the one asked for, any for 0. Raises `PortInUseError`."""
    _check(address)
    with contextlib.ExitStack() as stack:
        ports = {}
        for name, port in asked.items():
            try:
                ports[name] = stack.enter_context(listen(address, port)).getsockname()[1]
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    raise PortInUseError(
                        f"cannot listen on {address}: it is not an address of this machine; see --address"
                    ) from None
                raise PortInUseError(
                    f"cannot listen on {bracketed(address)}:{port} for {name}: {error.strerror or error}; "
                    f"stop what uses it, or choose another with --{name}-port (0 takes any free one)"
                ) from None
        return ports


@contextlib.contextmanager
def held(address: str, port: int) -> Iterator[None]:
    """Meanwhile nobody here who asks for any free port is given this one; a child of ours can listen there.

    Linux lets SO_REUSEADDR share a port of which one at most listens. Raises `PortInUseError` where one does.
    """
    try:
        bound = _bound(address, port)
    except OSError as error:
        raise PortInUseError(
            f"cannot listen on {bracketed(address)}:{port}: {error.strerror}; {ADVICE}"
        ) from None
    with bound:
        yield


@contextlib.contextmanager
def claimed(address: str, port: int) -> Iterator[None]:
    """As `held`, and nobody else claims it meanwhile, though nobody listens yet. Raises `PortInUseError`."""
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(f"\0triton-vision {address} {port}")  # once in a network namespace, and gone with us
        except OSError as error:
            raise PortInUseError(
                f"another launcher has {bracketed(address)}:{port}: {error.strerror}; {ADVICE}"
            ) from None
        with held(address, port):
            yield


def _check(address: str) -> None:
    """Raises `PortInUseError` for names, and for kinds of IPv6 addresses, that it cannot listen on."""
    if not is_address(address):
        raise PortInUseError(f"tritonserver cannot listen on {address}: it is no IP address; see --address")
    with contextlib.suppress(ValueError):
        known = ipaddress.IPv6Address(address)
        if known.ipv4_mapped:
            raise PortInUseError(f"tritonserver cannot listen on {address}: write it as {known.ipv4_mapped}")
        if known.is_link_local:
            raise PortInUseError(
                f"tritonserver cannot listen on {address}: that is link-local and needs a zone, which it "
                "does not take; choose another with --address"
            )


def port_is_free(address: str, port: int) -> bool:
    """Whether we could listen there; false, too, where `address` is none of this machine."""
    try:
        listen(address, port).close()
    except OSError:
        return False
    return True


def listens(processes: Iterable[int], port: int) -> bool:
    """Whether one of these processes listens on the port, at any address."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):  # there is none of IPv6 where that is off
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{inode}]")
    for process in processes:
        with contextlib.suppress(OSError):  # it ended
            for descriptor in os.scandir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) in sockets:
                        return True
    return False


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches `address`."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address == "localhost"
    return (getattr(known, "ipv4_mapped", None) or known).is_loopback


def is_address(address: str) -> bool:
    """Whether it is an IP address, its zone left aside, or "localhost": what can be listened on at all."""
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address == "localhost"
    return True


def is_ipv6(address: str) -> bool:
    """Whether `address` is one of IPv6, rather than of IPv4 or a name."""
    return ":" in address


def bracketed(address: str) -> str:
    """As it stands before a port: an IPv6 address in brackets."""
    return f"[{address}]" if is_ipv6(address) else address


def url(address: str, port: int) -> str:
    """host:port, for this machine: an address that means every interface becomes loopback."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address).is_unspecified:
            address = "::1" if is_ipv6(address) else "127.0.0.1"
    return f"{bracketed(address)}:{port}"


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `OSError`."""
    listener = _bound(address, port)
    try:
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _bound(address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if is_ipv6(address) else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is not "in use"
        bound.bind((address, port))
    except BaseException:
        bound.close()
        raise
    return bound
