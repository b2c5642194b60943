"""Clients that are slow, silent, or far too many, while good ones go on."""

import contextlib
import resource
import selectors
import socket
import time

import pytest

from tests.chaos.fleet import fleet, haproxy, under_load
from tests.gateways import Served, needs_haproxy
from tests.processes import resident_bytes, wait_until

pytestmark = [needs_haproxy, pytest.mark.chaos]

BODY_ENDS_S = 40  # longer than what the gateway allows a request to take, with a margin
HALF_SENT, FLOOD, HEADER_FLOODS, SLOW = 300, 2000, 200, 50
ADDRESS = "127.0.0.9"  # the good ones come from another
HEAD = (
    "POST /v2/models/plus_one/infer HTTP/1.1\r\nhost: gateway\r\n"
    "x-api-key: {key}\r\ncontent-type: application/json\r\n"
)


@pytest.fixture(scope="module")
def served(models, tmp_path_factory, tenants):
    with Served(models, tmp_path_factory.mktemp("clients") / "log", tenants, servers=2) as served:
        yield served


class Crowd:
    """Connections, until the block ends. `statuses`: what they were answered, None where they were cut."""

    def __init__(self, port: int):
        self._port, self.open, self.statuses = port, set(), []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_) -> None:
        for one in list(self.open):
            self._drop(one)
        self._selector.close()

    def add(self, first: bytes) -> None:
        with contextlib.suppress(OSError):  # refused, or cut off at once
            one = socket.create_connection(("127.0.0.1", self._port), 10, source_address=(ADDRESS, 0))
            self.open.add(one)
            self._selector.register(one, selectors.EVENT_READ)
            one.sendall(first)

    def send(self, more: bytes) -> None:
        for one in list(self.open):
            with contextlib.suppress(OSError):
                one.sendall(more)

    def look(self, timeout_s: float = 0.05) -> int:
        """Take what was answered; how many connections are still open."""
        for key, _ in self._selector.select(timeout_s):
            one = key.fileobj
            answer = b""
            with contextlib.suppress(OSError):
                answer = one.recv(65536)
            self.statuses.append(int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else None)
            self._drop(one)
        return len(self.open)

    def _drop(self, one: socket.socket) -> None:
        self.open.discard(one)
        self._selector.unregister(one)
        one.close()

    def __str__(self) -> str:
        found = {status: self.statuses.count(status) for status in sorted(set(self.statuses), key=str)}
        return f"{len(self.statuses)} connections ended ({found}), {len(self.open)} still open"


def head(served, *lines: str) -> bytes:
    text = HEAD.format(key=served.tenants.keys["alice"])
    return (text + "".join(f"{line}\r\n" for line in lines)).encode()


def beside(served, told, act, requests=2000):
    """Good clients, all of which must be answered right while `act(crowd)` runs."""
    before = resident_bytes(haproxy(served))
    with Crowd(served.port) as crowd:
        counted = under_load(served, requests, lambda _: act(crowd), rate=150)
        grown = (resident_bytes(haproxy(served)) - before) >> 20
        told(f"{crowd}\n    good clients: {counted}\n    HAProxy grew by {grown} MiB")
    assert (counted.lost, counted.refused) == (0, 0), counted
    assert {server["restarts"] for server in fleet(served)["servers"].values()} == {0}
    return crowd


def test_a_byte_a_second(served, told):
    """In headers, which have 5 s, and in bodies, which have 20: both are ended."""

    def act(crowd):
        for number in range(SLOW):
            begun = head(served) if number % 2 else head(served, "content-length: 1000", "")
            crowd.add(begun)
        began = time.monotonic()
        while crowd.look() and time.monotonic() < began + BODY_ENDS_S:
            crowd.send(b"a")
            time.sleep(1)

    crowd = beside(served, told, act)
    assert not crowd.open
    assert set(crowd.statuses) <= {408, None}
    assert len(crowd.statuses) == SLOW


def test_half_sent_bodies(served, told):
    """300 of them hold no server: they wait in the gateway, and are ended there."""

    def act(crowd):
        for _ in range(HALF_SENT):
            crowd.add(head(served, "content-length: 100000", "") + b"{" * 50_000)
        began = time.monotonic()
        while crowd.look() and time.monotonic() < began + BODY_ENDS_S:
            pass

    crowd = beside(served, told, act)
    assert not crowd.open
    assert set(crowd.statuses) <= {408, None}


def test_a_flood_of_headers(served, told):
    """Too many, too long, and without an end."""

    def act(crowd):
        for number in range(HEADER_FLOODS):
            many = [f"x-{index}: a" for index in range(200)]
            long = ["x-long: " + "a" * 60_000]
            endless = ["x-endless: " + "a" * 200_000] * 3
            crowd.add(head(served, *(many, long, endless)[number % 3], "content-length: 0", ""))
            crowd.look(0)
        wait_until(lambda: crowd.look() == 0)

    crowd = beside(served, told, act)
    assert set(crowd.statuses) <= {400, 431, None}


def test_a_flood_of_connections(served, told):
    """2,000 that say nothing: from one address no more than half of what the gateway takes get in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FLOOD + 1000:
        pytest.skip(f"{hard} open files are too few for {FLOOD} connections: ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def act(crowd):
        for _ in range(FLOOD):
            crowd.add(b"")
            crowd.look(0)
        wait_until(lambda: crowd.look() == 0, timeout_s=120)

    try:
        crowd = beside(served, told, act)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not crowd.open
