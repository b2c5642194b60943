"""Ports to listen on: those asked for, or any free ones."""

import contextlib
import errno
import socket
from collections.abc import Mapping

from ..errors import PortInUseError

__all__ = ["choose_ports", "is_loopback", "port_is_free"]


def choose_ports(address: str, asked: Mapping[str, int]) -> dict[str, int]:
    """A free port for each entry: the one asked for, any for 0. Raises `PortInUseError`."""
    with contextlib.ExitStack() as stack:
        ports = {}
        for name, port in asked.items():
            try:
                ports[name] = stack.enter_context(listen(address, port)).getsockname()[1]
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    raise PortInUseError(
                        f"cannot listen on {address}: it is no address of this machine; see --address"
                    ) from None
                raise PortInUseError(
                    f"cannot listen on {address}:{port} for {name}: {error.strerror or error}; stop what "
                    f"uses it, or choose another with --{name}-port (0 takes any free one)"
                ) from None
        return ports


def port_is_free(address: str, port: int) -> bool:
    """Whether we could listen there; false, too, where `address` is none of this machine."""
    try:
        listen(address, port).close()
    except OSError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches `address`."""
    return address == "localhost" or address.startswith("127.") or address == "::1"


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `OSError`."""
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is not "in use"
        listener.bind((address, port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener
