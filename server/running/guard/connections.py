"""The connections of another process that is to stop: part with clients without losing a request.

tritonserver, told to stop, waits for every HTTP connection that a client keeps open, as client libraries do,
answers on as many requests as come over it, gives up after --exit-timeout-secs, and ends in a crash with
requests in flight. Other servers end a connection with the answer that they are at. Here that is done from
outside: between two requests a connection is taken over, and the next request on it is answered with 503.

What comes next tells that an answer was complete. It must not reach tritonserver, though, so a socket filter
holds back what a client sends while its last request is answered; TCP sends it again. A client that is quiet
may still be reading a stream of answers that pauses, so it is parted with only after a while.

gRPC's connections are served until nothing is in flight. From then on tritonserver answers NOT_FOUND, for as
long as models take to unload, so further ones are refused, and these closed once no answer was on its way for
a while, as tritonserver writes the last ones later than it counts them: clients then see UNAVAILABLE.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import socket
import struct
import termios
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass

__all__ = ["Connections"]

PIDFD_GETFD = 438  # the system call, on every architecture; Linux 5.6
LISTENING, ESTABLISHED = "0A", "01"  # in /proc/net/tcp
TCP_ESTABLISHED = 1  # in struct tcp_info
SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_MEMINFO = 26, 27, 55  # asm-generic/socket.h
SK_MEMINFO_DROPS, SK_MEMINFO_VARS = 8, 9  # linux/sock_diag.h
# struct tcp_info of linux/tcp.h: eight bytes, numbers of 32 bits (times are milliseconds ago), then of 64
TCP_INFO_BYTES = 208
UNACKED, LAST_DATA_SENT, LAST_DATA_RECEIVED, LAST_ACK_RECEIVED = 4, 9, 11, 12
ROUND_TRIP = 15  # microseconds
BYTES_RECEIVED_AT, BYTES_SENT_AT = 128, 200

IDLE_S, IN_ONE_TICK_S, ROUND_TRIPS = 0.02, 0.1, 4  # of silence
QUIET_S = 3.0  # a stream of answers may pause for as long
LOOK_S, LOOKING_SHARE = 0.05, 0.1  # as often, but for a tenth of the time at most
CONTINUE_BYTES = 32  # "HTTP/1.1 100 Continue" is shorter, and no answer
FLUSH_S = 1.5  # without an answer of gRPC's
FEW_BYTES = 2**16  # which is more between two looks than refusals are
LINGER_S = 2.0  # for a request that was held back, to come again
ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 34\r\n"
    b"Retry-After: 5\r\nConnection: close\r\n\r\n" + b'{"error":"the server is stopping"}'
)
DROP_DATA = (  # classic BPF, from the TCP header on: (code, if true, if false, value)
    (0x80, 0, 0, 0),  # A = length of header and data
    (0x02, 0, 0, 0),  # M[0] = A
    (0x30, 0, 0, 12),  # A = the byte that begins with the header's length, in words
    (0x54, 0, 0, 0xF0),
    (0x74, 0, 0, 2),  # in bytes
    (0x07, 0, 0, 0),  # X = A
    (0x60, 0, 0, 0),  # A = M[0]
    (0x2D, 0, 1, 0),  # is there more than the header?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep it
)

libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class _Kept:
    """A connection that a client keeps open, in tritonserver.

    received, sent: bytes, when it was last held or let go. drops: packets then; idle: nothing was asked then.
    taken: shut for tritonserver; ours: closed there. due: a request was held back, and is not answered.
    answered: by us.
    """

    socket: socket.socket
    held: bool = False
    received: int = -1
    sent: int = 0
    drops: int = 0
    idle: bool = False
    taken: bool = False
    ours: bool = False
    due: bool = False
    answered: bool = False


@dataclass
class _Grpc:
    """A connection of gRPC. sent: bytes; answered_at: when it was last seen to answer."""

    socket: socket.socket
    answered_at: float
    sent: int = 0


class Connections:
    """Those of process `pid` at its ports, from the moment at which it is told to stop.

    refused: whether the kernel lets us have none of them, as a container's seccomp profile may.
    """

    def __init__(self, pid: int, http_ports: Set[int], grpc_ports: Set[int]):
        self.refused = False
        self._pid, self._http_ports, self._grpc_ports = pid, http_ports, grpc_ports
        self._process = -1  # of which pidfd_getfd knows nothing
        with contextlib.suppress(OSError):
            self._process = os.pidfd_open(pid)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a copy of each connection
        self._kept: dict[str, _Kept] = {}
        self._next_look = 0.0
        self._grpc: dict[str, _Grpc] = {}
        self._in_flight = True

    def timeout(self) -> float:
        """Seconds until the next `look`."""
        return max(0.0, self._next_look - time.monotonic())

    def look(self) -> None:
        """Hold, take or let go what is due. tritonserver must not have been waited for."""
        begun = time.monotonic()
        if begun < self._next_look:
            return
        with contextlib.suppress(OSError):  # it has ended
            theirs = dict(self._sockets(self._http_ports, ESTABLISHED))
            for name, descriptor in theirs.items():
                if name not in self._kept and (copy := self._copy(name, descriptor)):
                    self._kept[name] = _Kept(copy)
            for name, kept in list(self._kept.items()):
                self._part(name, kept, name in theirs)
            self._find_grpc()
        if not self._in_flight:
            self._close_grpc(begun)
        ended = time.monotonic()
        self._next_look = ended + max(LOOK_S, (ended - begun) / LOOKING_SHARE)

    def nothing_is_in_flight(self) -> None:
        """All that was asked over gRPC is answered, and nothing more is to be asked."""
        self._in_flight = False
        for connection in self._grpc.values():
            connection.answered_at = time.monotonic()
        with contextlib.suppress(OSError):
            for name, descriptor in self._sockets(self._grpc_ports, LISTENING):
                if copy := self._copy(name, descriptor):
                    with copy:
                        copy.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """tritonserver has ended: answer what was held back, and close all."""
        deadline = time.monotonic() + LINGER_S
        for kept in self._kept.values():
            if kept.taken and not kept.ours:
                _own(kept)
        while time.monotonic() < deadline and any(kept.due for kept in self._kept.values() if kept.ours):
            for name, kept in list(self._kept.items()):
                if kept.ours:
                    self._answer(name, kept)
            time.sleep(LOOK_S)
        for name in list(self._kept):
            self._forget(name)
        for connection in self._grpc.values():
            connection.socket.close()
        with contextlib.suppress(OSError):
            os.close(self._process)

    def _part(self, name: str, kept: _Kept, is_theirs: bool) -> None:
        if kept.ours:
            self._answer(name, kept)
            return
        if not is_theirs:
            if kept.taken:
                _own(kept)
            else:  # closed by the client, or by tritonserver
                self._forget(name)
            return
        if kept.taken:
            return  # tritonserver is about to close it
        numbers, received, sent = _tcp_info(kept.socket)
        if not kept.held:
            if received != kept.received or _quiet(numbers):
                kept.held, kept.received, kept.sent, kept.drops = True, received, sent, _drops(kept.socket)
                kept.idle = _idle(numbers)
                _hold(kept.socket)
            return
        kept.due = _drops(kept.socket) > kept.drops
        answered = kept.idle or sent > kept.sent + CONTINUE_BYTES
        all_sent = not numbers[UNACKED] and not _pending(kept.socket, termios.TIOCOUTQ)
        all_read = not _pending(kept.socket, termios.FIONREAD)
        if all_sent and all_read and ((kept.due and answered) or _quiet(numbers)):
            kept.taken = True
            with contextlib.suppress(OSError):
                kept.socket.shutdown(socket.SHUT_RD)  # for tritonserver: to us, what comes later still comes
        elif kept.due and not answered:  # the rest of a request, or one that was answered just before
            _let_go(kept.socket)
            kept.held, kept.due, kept.received = False, False, received

    def _answer(self, name: str, kept: _Kept) -> None:
        """What has come on a connection of ours. Its end for us is not the client's: that is in its state."""
        try:
            if _pending(kept.socket, termios.FIONREAD):
                while kept.socket.recv(2**16):
                    pass
                if not kept.answered:
                    kept.answered, kept.due = True, False
                    kept.socket.sendall(ANSWER)
            elif kept.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED:
                self._forget(name)
        except BlockingIOError:
            pass
        except OSError:
            self._forget(name)

    def _find_grpc(self) -> None:
        theirs = dict(self._sockets(self._grpc_ports, ESTABLISHED))
        for name in self._grpc.keys() - theirs.keys():
            self._grpc.pop(name).socket.close()
        for name in theirs.keys() - self._grpc.keys():
            if copy := self._copy(name, theirs[name]):
                self._grpc[name] = _Grpc(copy, time.monotonic())

    def _close_grpc(self, now: float) -> None:
        for connection in self._grpc.values():
            with contextlib.suppress(OSError):
                _, _, sent = _tcp_info(connection.socket)
                if _pending(connection.socket, termios.TIOCOUTQ) or sent - connection.sent > FEW_BYTES:
                    connection.answered_at = now
                connection.sent = sent
                if now - connection.answered_at >= FLUSH_S:
                    connection.socket.shutdown(socket.SHUT_RDWR)
                else:
                    _hold(connection.socket)

    def _forget(self, name: str) -> None:
        self._kept.pop(name).socket.close()

    def _copy(self, name: str, descriptor: int) -> socket.socket | None:
        """Of that socket; None where it may not be had, or the descriptor is another file's by now."""
        copied = libc.syscall(PIDFD_GETFD, self._process, descriptor, 0)
        if copied < 0:
            self.refused |= ctypes.get_errno() in (errno.EPERM, errno.ENOSYS) or self._process < 0
            return None
        if os.readlink(f"/proc/self/fd/{copied}") != name:
            os.close(copied)
            return None
        return socket.socket(fileno=copied)

    def _sockets(self, ports: Set[int], state: str) -> Iterator[tuple[str, int]]:
        """Name ("socket:[INODE]") and descriptor of those at these ports."""
        names = set()
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(OSError), open(f"/proc/{self._pid}/net/{table}") as lines:
                for line in list(lines)[1:]:
                    fields = line.split()
                    if fields[3] == state and int(fields[1].rpartition(":")[2], 16) in ports:
                        names.add(f"socket:[{fields[9]}]")
        for descriptor in os.listdir(f"/proc/{self._pid}/fd") if names else ():
            with contextlib.suppress(OSError):
                if (name := os.readlink(f"/proc/{self._pid}/fd/{descriptor}")) in names:
                    yield name, int(descriptor)


def _idle(numbers: tuple[int, ...]) -> bool:
    """Whether we spoke last, and nothing came since: what comes next is a new request.

    Where both were in one tick of the kernel's clock, a request may have begun right after an answer, and its
    body be late on a busy machine: then only after a longer silence.
    """
    sent, received = numbers[LAST_DATA_SENT], numbers[LAST_DATA_RECEIVED]
    least = IDLE_S if sent < received else IN_ONE_TICK_S
    return sent <= received and sent >= 1000 * least + ROUND_TRIPS * numbers[ROUND_TRIP] / 1000


def _quiet(numbers: tuple[int, ...]) -> bool:
    """Whether we spoke last, or were acknowledged last, and that some time ago.

    Who waits for an answer acknowledges nothing.
    """
    received = numbers[LAST_DATA_RECEIVED]
    answered = min(numbers[LAST_DATA_SENT], numbers[LAST_ACK_RECEIVED]) < received
    return answered and min(numbers[LAST_DATA_SENT], received) >= 1000 * QUIET_S


def _tcp_info(connection: socket.socket) -> tuple[tuple[int, ...], int, int]:
    """Its numbers of 32 bits, the bytes received, and the bytes sent."""
    found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    found = found.ljust(TCP_INFO_BYTES, b"\0")
    numbers = struct.unpack_from("@24I", found, 8)
    (received,), (sent,) = (struct.unpack_from("@Q", found, at) for at in (BYTES_RECEIVED_AT, BYTES_SENT_AT))
    return numbers, received, sent


def _drops(connection: socket.socket) -> int:
    found = connection.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * SK_MEMINFO_VARS)
    return int(struct.unpack(f"@{len(found) // 4}I", found)[SK_MEMINFO_DROPS])


def _pending(connection: socket.socket, what: int) -> int:
    """Bytes that are not sent or acknowledged yet (TIOCOUTQ), or not read (FIONREAD)."""
    return int(struct.unpack("@i", fcntl.ioctl(connection, what, bytes(4)))[0])


def _hold(connection: socket.socket) -> None:
    """Let nothing in that the other side sends, but its acknowledgements."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("@HBBI", *line) for line in DROP_DATA))
    filter_ = struct.pack("@HP", len(DROP_DATA), ctypes.addressof(program))
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)


def _let_go(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def _own(kept: _Kept) -> None:
    """From now on we answer on it."""
    with contextlib.suppress(OSError):
        kept.due = _drops(kept.socket) > kept.drops
    _let_go(kept.socket)
    kept.ours = True
