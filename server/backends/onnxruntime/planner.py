"""The process that reads graphs for the native half of the backend: one for all models of a server.

    python3 planner.py        (native/planner.c starts it, with a socket as descriptor 3)

It opens ONNX Runtime once, says that it is ready, and then forks a child for each model whose connection
it is handed. The child reads the graph as a session will, so a file that ends, stalls or bloats its reader
costs a child with a limit of time and of memory, and its model fails with a reason: tritonserver never reads
it.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from pathlib import Path

CONTROL_DESCRIPTOR = 3
if __name__ == "__main__":  # before anything opens its own: tritonserver's ports are not ours to hold
    os.closerange(CONTROL_DESCRIPTOR + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # of models, to ONNX Runtime's maker

import graph_reader  # noqa: E402
import native_plan  # noqa: E402

TIME_VARIABLE = "TRITON_VISION_PLAN_TIMEOUT_S"
SECONDS = 60  # for one model; and a second more for each
BYTES_PER_SECOND = 10 * 2**20
ALLOWED_BYTES = 2 * 2**30  # of memory for one model; and as much for each byte of its files as
BYTES_PER_BYTE = 8
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIMIT, BROKEN, REFUSED = b"L", b"B", native_plan.REFUSED


def main() -> int:
    """Until the server hangs up; returns the exit status, 1 where onnxruntime has no C library."""
    library = graph_reader.library_path()
    if not library:
        print("onnxruntime is missing, or has no C library; 1.19 and later have", file=sys.stderr)
        return 1
    graph_reader.load_library()  # once for all children
    control = socket.socket(fileno=CONTROL_DESCRIPTOR)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    control.send(os.fsencode(library))
    children: dict[int, socket.socket] = {}
    while True:
        watched: list[socket.socket | int] = [control, wake_read]
        readable, _, _ = select.select(watched, [], [])
        if wake_read in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
            reap(children)
        if control in readable:
            _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not descriptors:  # the server has ended, or needs us no longer
                return 0
            connection = socket.socket(fileno=descriptors[0])
            child = os.fork()
            if child == 0:
                for other in (control, *children.values()):  # what it reads may take it over
                    other.close()
                serve(connection)
            children[child] = connection


def reap(children: dict[int, socket.socket]) -> None:
    """Say of children that ended without an answer how they ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with children.pop(pid) as connection, contextlib.suppress(OSError):
                if status:
                    send(connection, REFUSED + ending(status).encode())


def ending(status: int) -> str:
    """What to tell of a child that ended with `status`, which is waitpid's."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return (
            "reading its graph took longer than a graph of its size may; if the disk is that slow, allow "
            f"more with {TIME_VARIABLE} (seconds, now {seconds()})"
        )
    how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return f"reading its graph ended the process that did so ({how}); the file is damaged, or made to do that"


def seconds() -> int:
    """For one model, beside what its size allows: `TIME_VARIABLE` from 1 to 999,999, else `SECONDS`."""
    text = os.environ.get(TIME_VARIABLE, "")
    return int(text) if text.isdigit() and 0 < int(text) < 10**6 else SECONDS


def serve(connection: socket.socket) -> None:
    """In the child: one model's request and the reply to it; does not return."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.alarm(seconds())  # which nothing here handles, so it ends this process whatever it does
        folder, complete, config = (receive(connection) for _ in range(3))
        version_folder = Path(os.fsdecode(folder))
        set_limits(connection, size_of(version_folder))
        send(connection, native_plan.reply_for(version_folder, config.decode(), bool(complete)))
        status = 0
    except MemoryError:
        send(connection, REFUSED + b"its graph needs more memory than a graph of its size may")
        status = 0
    except BaseException as error:
        traceback.print_exc()
        with contextlib.suppress(OSError):
            send(connection, BROKEN + repr(error).encode(errors="backslashreplace"))
            status = 0
    finally:
        os._exit(status)


def size_of(folder: Path) -> int:
    """Bytes of the files there, of those behind links, too."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def set_limits(connection: socket.socket, size: int) -> None:
    """For files of `size` bytes: of time, which the server is told in seconds, and of address space."""
    limit_s = seconds() + size // BYTES_PER_SECOND
    signal.alarm(limit_s)
    send(connection, LIMIT + str(limit_s).encode())
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    allowed = mapped + ALLOWED_BYTES + BYTES_PER_BYTE * size
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (allowed if hard < 0 else min(allowed, hard), hard))


def receive(connection: socket.socket) -> bytes:
    """One message, without its length. Raises `EOFError` if the server hangs up before its end."""

    def exactly(size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            if not (part := connection.recv(min(size - len(data), 2**20))):
                raise EOFError("the server closed the connection")
            data += part
        return bytes(data)

    return exactly(struct.unpack("<I", exactly(4))[0])


def send(connection: socket.socket, text: bytes) -> None:
    """One message: its length as UINT32, little-endian, and `text`. Raises `OSError`."""
    connection.sendall(struct.pack("<I", len(text)) + text)


if __name__ == "__main__":
    sys.exit(main())
