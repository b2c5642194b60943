"""Ports for the servers that a test starts."""

import contextlib
import socket

_KEPT = contextlib.ExitStack()


def free_ports(*names: str) -> dict[str, int]:
    """One of 127.0.0.1 for each. Until this process ends only who names it gets it: it is bound here, and
    Linux lets SO_REUSEADDR share that while nobody listens; whoever asks for any port is given another."""
    ports = {}
    for name in names:
        bound = _KEPT.enter_context(socket.socket())
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        ports[name] = bound.getsockname()[1]
    return ports
