"""Close connections of another process on which nothing is to come.

tritonserver, told to stop, waits for every HTTP connection that a client keeps open, as client libraries do,
for all of its --exit-timeout-secs, and then ends without unloading its models. Other servers close a
connection that is between two requests. Here that is done from outside: TCP says which side spoke last.
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Set

__all__ = ["close_idle"]

PIDFD_GETFD = 438  # the system call, on every architecture; Linux 5.6
ESTABLISHED = "01"  # in /proc/net/tcp
# struct tcp_info of linux/tcp.h: eight bytes, then numbers of 32 bits; times are milliseconds ago
TCP_INFO_BYTES = 104
UNACKED, LAST_DATA_SENT, LAST_DATA_RECEIVED, LAST_ACK_RECEIVED = 4, 9, 11, 12

libc = ctypes.CDLL(None, use_errno=True)


def close_idle(pid: int, ports: Set[int], quiet_s: float) -> int:
    """Close those at the local `ports` of `pid` that have been quiet for `quiet_s`; how many.

    What has been asked and not been answered stays, and so does what cannot be told. None is closed
    where the kernel does not allow it, as in a container without ptrace.
    """
    closed = 0
    with contextlib.suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            for descriptor in _descriptors(pid, ports):
                copied = libc.syscall(PIDFD_GETFD, process, descriptor, 0)
                if copied < 0:
                    continue
                with socket.socket(fileno=copied) as connection, contextlib.suppress(OSError):
                    if _is_idle(connection, quiet_s):
                        connection.shutdown(socket.SHUT_RDWR)
                        closed += 1
        finally:
            os.close(process)
    return closed


def _is_idle(connection: socket.socket, quiet_s: float) -> bool:
    """Whether we spoke last, or were acknowledged last: who waits for an answer acknowledges nothing."""
    found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    numbers = struct.unpack_from(f"@{(len(found) - 8) // 4}I", found, 8)
    received = numbers[LAST_DATA_RECEIVED]
    answered = min(numbers[LAST_DATA_SENT], numbers[LAST_ACK_RECEIVED]) < received
    quiet = min(numbers[LAST_DATA_SENT], received) >= 1000 * quiet_s
    return answered and quiet and not numbers[UNACKED]


def _descriptors(pid: int, ports: Set[int]) -> Iterator[int]:
    """Of the established connections at these ports."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/net/{table}") as lines:
            for line in list(lines)[1:]:
                fields = line.split()
                if fields[3] == ESTABLISHED and int(fields[1].rpartition(":")[2], 16) in ports:
                    sockets.add(f"socket:[{fields[9]}]")
    for name in os.listdir(f"/proc/{pid}/fd") if sockets else ():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{name}") in sockets:
                yield int(name)
