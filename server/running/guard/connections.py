"""The connections of another process that is to stop: part with clients without losing a request.

tritonserver, told to stop, waits for every HTTP connection that a client keeps open, as client libraries do,
answers on as many requests as come over it, gives up after --exit-timeout-secs, and ends in a crash with
requests in flight. Other servers end a connection with the answer that they are at. Here that is done from
outside: what a client sends from now on is read here instead, and answered with 503.

The socket's low-water mark keeps tritonserver from being woken by it (SO_RCVLOWAT). Whoever sends has had its
last answer whole, as HTTP's clients wait for it; and a request of which a part was read here is none that
tritonserver can answer, so each is answered once. New connections are accepted here, too. Of those that came
before, tritonserver closes each that none of its threads has taken up when it is told to stop; so all are
copied first: a copy keeps a connection open. A client that sends nothing is parted with after a while, if
tritonserver waits for it: it does not while it works on a request (evhtp pauses the connection), but does
while a stream of answers goes out, and that may pause.

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
import select
import socket
import struct
import termios
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass

__all__ = ["Connections"]

PIDFD_GETFD = 438  # the system call, on every architecture; Linux 5.6
LISTENING, ESTABLISHED, CONNECTING = "0A", "01", "03"  # in /proc/net/tcp
TCP_ESTABLISHED = 1  # in struct tcp_info
# struct tcp_info of linux/tcp.h: eight bytes, numbers of 32 bits (times are milliseconds ago), then of 64
TCP_INFO_BYTES = 208
LAST_DATA_SENT, LAST_DATA_RECEIVED, LAST_ACK_RECEIVED = 9, 11, 12
BYTES_SENT_AT = 200

READ_OR_WRITE = select.EPOLLIN | select.EPOLLOUT
QUIET_S = 3.0  # a stream of answers may pause for as long
LOOK_S, LOOKING_SHARE = 0.05, 0.1  # as often, but for a tenth of the time at most
FLUSH_S = 1.5  # without an answer of gRPC's
FEW_BYTES = 2**16  # which is more between two looks than refusals are
LINGER_S = 2.0  # for clients to read our last answers
SENDS_WITHIN_S = 0.5  # a client that has connected, or has had an answer
CONNECTS_WITHIN_S = 3.0  # a client whose first packet has come, also if another is lost on the way
CONNECTING_LOOK_S = 0.002
NEVER = 2**30  # bytes; the kernel makes half of its largest buffer of it; what comes is read here long before
MOST_WAITING = 1024  # for us to accept them
SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h
TO_THE_SECOND = (0x06, 0, 0, 1)  # return 1, which counts from 0
ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 34\r\n"
    b"Retry-After: 5\r\nConnection: close\r\n\r\n" + b'{"error":"the server is stopping"}'
)

libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class _Kept:
    """A connection that a client keeps open, in tritonserver.

    waiting: something was there to be read at the last look. answered: by us. shut: tritonserver reads no
    more of it, and closes it, or has.
    """

    socket: socket.socket
    waiting: bool = False
    answered: bool = False
    shut: bool = False


@dataclass
class _Grpc:
    """A connection of gRPC. sent: bytes; answered_at: when it was last seen to answer."""

    socket: socket.socket
    answered_at: float
    sent: int = 0


class Connections:
    """Those of process `pid` at its ports, from just before it is told to stop: once made, it has them all.

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
        self._listeners: list[socket.socket] = []  # tritonserver's own, and ours that took over from them
        for theirs in self._accepting(http_ports):
            self._listeners += [theirs, *_take_over(theirs)]
        self._wait_until_connected()
        self.look()

    def timeout(self) -> float:
        """Seconds until the next `look`."""
        return max(0.0, self._next_look - time.monotonic())

    def look(self) -> None:
        """Hold, answer and part with what is due. tritonserver must not have been waited for."""
        begun = time.monotonic()
        if begun < self._next_look:
            return
        with contextlib.suppress(OSError):  # it has ended
            self._accept()  # before tritonserver does
            theirs = dict(self._sockets(self._http_ports, ESTABLISHED))
            for name, descriptor in theirs.items():
                if name not in self._kept and (copy := self._copy(name, descriptor)):
                    _hold(copy)
                    self._kept[name] = _Kept(copy)
            awaited = self._awaited()
            for name, kept in list(self._kept.items()):
                self._part(name, kept, name in theirs, theirs.get(name) in awaited)
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
        for theirs in self._accepting(self._grpc_ports):
            with theirs:
                theirs.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """tritonserver has ended: answer what was held back, wait until that is read, and close all."""
        deadline = time.monotonic() + LINGER_S
        self._accept()
        for listener in self._listeners:
            listener.close()
        for kept in self._kept.values():
            _read(kept)
        while time.monotonic() < deadline and any(map(_is_at_it, self._kept.values())):
            time.sleep(LOOK_S)
            for kept in self._kept.values():
                _read(kept)
        for kept in self._kept.values():
            kept.socket.close()
        for connection in self._grpc.values():
            connection.socket.close()
        with contextlib.suppress(OSError):
            os.close(self._process)

    def _part(self, name: str, kept: _Kept, is_theirs: bool, awaited: bool) -> None:
        waiting = _pending(kept.socket, termios.FIONREAD) > 0
        if not is_theirs and _tcp_info(kept.socket)[1] == 0:  # tritonserver closed it without an answer
            kept.shut = True
        if waiting and (kept.waiting or kept.answered or not is_theirs):
            _read(kept)  # tritonserver has read what it was woken for before
        elif not waiting and not kept.shut and (kept.answered or (awaited and _quiet(kept.socket))):
            kept.shut = True
            with contextlib.suppress(OSError):
                kept.socket.shutdown(socket.SHUT_RD)  # for tritonserver: to us, what comes later still comes
        elif not is_theirs and not (
            kept.shut and _is_open(kept.socket)
        ):  # closed by the client, or by tritonserver
            self._kept.pop(name).socket.close()
            return
        kept.waiting = waiting

    def _wait_until_connected(self) -> None:
        """Those whose clients began to connect before we took over come to tritonserver's own socket yet."""
        deadline = time.monotonic() + CONNECTS_WITHIN_S
        before = self._connecting() if self._listeners else set()
        while before and time.monotonic() < deadline:
            time.sleep(CONNECTING_LOOK_S)
            before &= self._connecting()

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
                _, sent = _tcp_info(connection.socket)
                if _pending(connection.socket, termios.TIOCOUTQ) or sent - connection.sent > FEW_BYTES:
                    connection.answered_at = now
                connection.sent = sent
                if now - connection.answered_at >= FLUSH_S:
                    connection.socket.shutdown(socket.SHUT_RDWR)
                else:
                    _hold(connection.socket)

    def _accept(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # no more of them
                while True:
                    accepted, _ = listener.accept()
                    inode = os.fstat(accepted.fileno()).st_ino
                    self._kept[f"socket:[{inode}]"] = _Kept(accepted, shut=True)

    def _accepting(self, ports: Set[int]) -> Iterator[socket.socket]:
        """Copies of the sockets that accept new ones."""
        with contextlib.suppress(OSError):
            for name, descriptor in self._sockets(ports, LISTENING):
                if copy := self._copy(name, descriptor):
                    yield copy

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

    def _awaited(self) -> set[int]:
        """Descriptors that tritonserver waits to read from, and has nothing to write to."""
        found = set()
        for descriptor in os.listdir(f"/proc/{self._pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{self._pid}/fd/{descriptor}") == "anon_inode:[eventpoll]":
                    with open(f"/proc/{self._pid}/fdinfo/{descriptor}") as lines:
                        for fields in map(str.split, lines):  # tfd: DESCRIPTOR events: HEXADECIMAL ...
                            if fields[0] == "tfd:" and int(fields[3], 16) & READ_OR_WRITE == select.EPOLLIN:
                                found.add(int(fields[1]))
        return found

    def _sockets(self, ports: Set[int], state: str) -> Iterator[tuple[str, int]]:
        """Name ("socket:[INODE]") and descriptor of those at these ports."""
        names = {f"socket:[{fields[9]}]" for fields in self._table(ports, state)}
        for descriptor in os.listdir(f"/proc/{self._pid}/fd") if names else ():
            with contextlib.suppress(OSError):
                if (name := os.readlink(f"/proc/{self._pid}/fd/{descriptor}")) in names:
                    yield name, int(descriptor)

    def _connecting(self) -> set[str]:
        """Addresses of clients of which the first packet has come, and the second has not."""
        return {fields[2] for fields in self._table(self._http_ports, CONNECTING)}

    def _table(self, ports: Set[int], state: str) -> Iterator[list[str]]:
        """Lines of the kernel's tables: number, own address, the other's, state and so on."""
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(OSError), open(f"/proc/{self._pid}/net/{table}") as lines:
                for fields in map(str.split, list(lines)[1:]):
                    if fields[3] == state and int(fields[1].rpartition(":")[2], 16) in ports:
                        yield fields


def _quiet(connection: socket.socket) -> bool:
    """Whether neither side has sent anything for some time."""
    numbers, _ = _tcp_info(connection)
    return min(numbers[LAST_DATA_SENT], numbers[LAST_DATA_RECEIVED]) >= 1000 * QUIET_S


def _tcp_info(connection: socket.socket) -> tuple[tuple[int, ...], int]:
    """Its numbers of 32 bits, and the bytes sent."""
    found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    found = found.ljust(TCP_INFO_BYTES, b"\0")
    (sent,) = struct.unpack_from("@Q", found, BYTES_SENT_AT)
    return struct.unpack_from("@24I", found, 8), sent


def _pending(connection: socket.socket, what: int) -> int:
    """Bytes that are not sent or acknowledged yet (TIOCOUTQ), or not read (FIONREAD)."""
    return int(struct.unpack("@i", fcntl.ioctl(connection, what, bytes(4)))[0])


def _take_over(theirs: socket.socket) -> Iterator[socket.socket]:
    """A socket that accepts what was for this one: tritonserver closes it unanswered, once it stops.

    Both share the port, and the program (classic BPF) gives all to the second of them. None comes where that
    cannot be had.
    """
    program = ctypes.create_string_buffer(struct.pack("@HBBI", *TO_THE_SECOND))
    ours = socket.socket(theirs.family)
    try:
        for one in (theirs, ours):
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if theirs.family == socket.AF_INET6:
            alone = theirs.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            ours.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
        ours.bind(theirs.getsockname())
        ours.listen(MOST_WAITING)
        filter_ = struct.pack("@HP", 1, ctypes.addressof(program))
        ours.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, filter_)
    except OSError:
        ours.close()
    else:
        yield ours


def _hold(connection: socket.socket) -> None:
    """Let whoever waits until it is readable wait on: it is read here."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, NEVER)


def _read(kept: _Kept) -> None:
    """Take what has come from the client, and answer it, once."""
    with contextlib.suppress(OSError):  # nothing, or nobody, is there any more
        while kept.socket.recv(2**20, socket.MSG_DONTWAIT):
            if not kept.answered:
                kept.answered = True
                kept.socket.sendall(ANSWER)


def _is_at_it(kept: _Kept) -> bool:
    """Whether the client reads an answer of ours, or may be about to ask."""
    if kept.answered:
        return _is_open(kept.socket)
    numbers, _ = _tcp_info(kept.socket)
    return _is_open(kept.socket) and numbers[LAST_ACK_RECEIVED] < 1000 * SENDS_WITHIN_S


def _is_open(connection: socket.socket) -> bool:
    """Whether neither side has closed it. That it ended for tritonserver does not count."""
    state: int = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == TCP_ESTABLISHED
