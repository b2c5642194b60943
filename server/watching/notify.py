"""Tell systemd how far a launcher is, where it asked for that: a unit of Type=notify."""

import contextlib
import os
import socket

__all__ = ["notify"]

MOMENT_S = 1.0


def notify(state: str) -> None:
    """ "READY=1"; nothing happens without systemd, or where it takes nothing for `MOMENT_S`."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.settimeout(MOMENT_S)
            connection.connect(f"\0{path[1:]}" if path.startswith("@") else path)
            connection.send(state.encode())
