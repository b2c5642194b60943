"""How a running launcher is told to scale, to restart its servers, or to say how they are: a socket.

One request a connection: a line of JSON, {"do": "scale", "servers": 4}; the answer is one, too, with "error"
where it went wrong. The folder around the socket lets nobody in but its owner.
"""

import contextlib
import json
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any

from ...environment.place import COMMAND
from ...errors import NoAnswerError, ServerError
from .fleet import Fleet

__all__ = ["CONTROL_SOCKET", "Control", "ask"]

CONTROL_SOCKET = "control.sock"
LONGEST_REQUEST = 65536
SILENT_S = 5.0


class Control(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves while the context is open."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, fleet: Fleet, path: Path):
        self.fleet, self.path = fleet, path
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        super().__init__(str(path), Handler)
        path.chmod(0o600)

    def __enter__(self) -> "Control":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What was done, and how things are then; or {"error": why}."""
        try:
            match request:
                case {"do": "status"}:
                    pass
                case {"do": "scale", "servers": int(servers)}:
                    self.fleet.scale(servers)
                case {"do": "restart", "slots": [*slots]}:
                    self.fleet.restart(map(str, slots))
                case _:
                    return {"error": "the request is none of status, scale, restart"}
            return self.fleet.describe()
        except ServerError as error:
            return {"error": str(error)}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class Handler(socketserver.StreamRequestHandler):
    """One request to a `Control`."""

    server: Control

    def handle(self) -> None:
        """See the module."""
        self.connection.settimeout(SILENT_S)
        line = self.rfile.readline(LONGEST_REQUEST)
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        told = (
            self.server.answer(request) if isinstance(request, dict) else {"error": "that is no JSON object"}
        )
        self.wfile.write(f"{json.dumps(told)}\n".encode())


def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Waits until it is done. Raises `NoAnswerError` if no launcher answers there, or says why not."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            connection.sendall(f"{json.dumps(request)}\n".encode())
            told: dict[str, Any] = json.loads(connection.makefile().readline())
    except (OSError, ValueError) as error:
        raise NoAnswerError(
            f"no gateway answers at {path} ({error}); is `{COMMAND} --gateway` running, and on this port? "
            "See --gateway-port"
        ) from None
    if "error" in told:
        raise NoAnswerError(str(told["error"]))
    return told
