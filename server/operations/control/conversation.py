"""How a running launcher is spoken to: over a socket of its owner, in a folder that lets nobody else in.

A line of JSON asks, {"do": "status"}; each line of the answer is one, too. The last line says how it ended:
with "error" where it went wrong. A long task tells its progress on the lines before, and ends early once the
client has shut its side down.
"""

import contextlib
import json
import os
import shutil
import socket
import socketserver
import stat
import struct
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...environment.place import COMMAND
from ...errors import NoAnswerError, ServerError, StartError
from ...running.model_processes import process_state

__all__ = [
    "CONTROL_SOCKET",
    "Answer",
    "Client",
    "Control",
    "StandsStillError",
    "ask",
    "make_private",
    "remove_leftovers",
    "run_folder",
    "run_folders",
]

CONTROL_SOCKET = "control.sock"
LONGEST_REQUEST = 65536
SILENT_S = 5.0
CONNECT_S = 5  # where others wait already

Answer = Callable[[dict[str, Any], "Client"], dict[str, Any]]


class StandsStillError(NoAnswerError):
    """A launcher is there, and does not go on."""


def run_folder(port: int) -> Path:
    """Of the launcher whose clients ask at `port`: its sockets and files, which only its owner can enter."""
    return _base() / str(port)


def _base() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"triton-vision-gateway-{os.getuid()}"


def run_folders() -> dict[int, Path]:
    """Of launchers of this user that run, or did so when they were killed, by port."""
    with contextlib.suppress(OSError):
        found = {int(path.name): path for path in _base().iterdir() if path.name.isdecimal()}
        return dict(sorted(found.items()))
    return {}


def remove_leftovers() -> None:
    """Remove the folders of launchers that were killed: whose sockets nobody listens at."""
    if not _is_private(_base()):
        return
    for port, folder in run_folders().items():
        try:
            _connect(port).close()
        except ConnectionRefusedError:
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it has none yet, or is gone
            continue


def make_private(folder: Path) -> None:
    """Make it, and its parent; a launcher that was killed may have left a socket there, which is removed.

    Raises `StartError` where it is somebody else's, or others may enter.
    """
    with contextlib.suppress(StartError):  # as a launcher that ends may remove the parent just now
        _make_private(folder)
    _make_private(folder)
    (folder / CONTROL_SOCKET).unlink(missing_ok=True)


def _make_private(folder: Path) -> None:
    for path in (folder.parent, folder):
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StartError(f"the launcher's folder {path} cannot be made: {error.strerror}") from None
        if not _is_private(path):
            raise StartError(f"{path} is not a folder of yours alone; remove it, or let TMPDIR name another")


def _is_private(path: Path) -> bool:
    """Whether it is a folder of this user, which others may not enter."""
    with contextlib.suppress(OSError):
        found = path.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return False


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same socket by a path that has room in a socket's address, which takes 108 bytes (unix(7))."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class Client:
    """Who asked. left: set once it has shut its side down."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self.left = threading.Event()

    def tell(self, progress: dict[str, Any]) -> None:
        """A line of the answer."""
        try:
            self._connection.sendall(f"{json.dumps(progress)}\n".encode())
        except OSError:
            self.left.set()

    def watch(self) -> None:
        """Until it has shut its side down."""
        with contextlib.suppress(OSError):
            self._connection.settimeout(None)
            while self._connection.recv(1):
                pass
        self.left.set()


class Control(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves at `path` while the context is open. answer: what is done, and told at the end.

    Raises `StartError`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, answer: Answer):
        self.answer = answer
        self._path = path
        new = path.with_name(f"{path.name}.new")  # it is there under its name once somebody listens
        try:
            new.unlink(missing_ok=True)
            with _short(new) as address:
                super().__init__(address, Handler)
            new.chmod(0o600)
            new.replace(path)
        except OSError as error:
            raise StartError(f"the launcher's socket {path} cannot be made: {error.strerror}") from None

    def __enter__(self) -> "Control":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
            self._path.parent.rmdir()  # but a gateway's, which has other files
            self._path.parent.parent.rmdir()  # but where other launchers run

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class Handler(socketserver.StreamRequestHandler):
    """One request to a `Control`."""

    server: Control

    def handle(self) -> None:
        """See the module."""
        self.connection.settimeout(SILENT_S)
        line = self.rfile.readline(LONGEST_REQUEST)
        client = Client(self.connection)
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            client.tell({"error": "that is no JSON object"})
            return
        threading.Thread(target=client.watch, daemon=True).start()
        try:
            client.tell(self.server.answer(request, client))
        except ServerError as error:
            client.tell({"error": str(error)})
        except Exception as error:
            client.tell({"error": f"the launcher made a mistake, which its log has: {error!r}"})
            traceback.print_exc()


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """To the launcher at `port`. Raises `NoAnswerError`; one that is stopped is a `StandsStillError`."""
    try:
        connection = _connect(port)
    except BlockingIOError:
        raise StandsStillError(
            f"the launcher at port {port} takes no questions, as others wait already; ask again later"
        ) from None
    except OSError:
        raise NoAnswerError(f"no launcher of yours runs at port {port}; see `{COMMAND} status`") from None
    with connection:
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if process_state(pid) == "T":
            raise StandsStillError(
                f"the launcher at port {port}, process {pid}, was stopped; `kill -CONT {pid}` lets it go on"
            )
        yield connection


def _connect(port: int) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", CONNECT_S, 0))
        with _short(run_folder(port) / CONTROL_SOCKET) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def conversation(connection: socket.socket, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of an answer. Raises `NoAnswerError` if it breaks off, or says that it went wrong."""
    try:
        connection.sendall(f"{json.dumps(request)}\n".encode())
        for line in connection.makefile():
            told: dict[str, Any] = json.loads(line)
            if "error" in told:
                raise NoAnswerError(str(told["error"]))
            yield told
    except (OSError, ValueError) as error:
        raise NoAnswerError(f"the launcher broke off: {error}") from None


def ask(port: int, request: dict[str, Any]) -> dict[str, Any]:
    """Waits until it is done; the last line of the answer. Raises `NoAnswerError`."""
    with connected(port) as connection:
        told = list(conversation(connection, request))
    if not told:
        raise NoAnswerError("the launcher ended before it had answered")
    return told[-1]
