"""KeptConnections that are kept, to a server that hangs up, hangs, or speaks something else."""

import asyncio
import contextlib
import socket

import pytest
import uvloop

from server.tfserving.wire import connections as module
from server.tfserving.wire.connections import KeptConnections, Unreachable

ASK = [b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", b"body"]
TOLD = b"HTTP/1.1 200 OK\r\nX-Name: value\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """However slow the machine is."""
    monkeypatch.setattr(module, "AT_ONCE_S", 60)


class Server:
    """Gives the answers in turn, and then TOLD; one that ends in None hangs up behind it.

    connections: how many there were. asked: set once a request is there. go: answers wait for it.
    """

    def __init__(self, *answers):
        self.answers, self.connections = list(answers), 0
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def handle(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readexactly(sum(map(len, ASK)))
                self.asked.set()
                await self.go.wait()
                answer, *then = self.answers.pop(0) if self.answers else (TOLD,)
                writer.write(answer)
                if then:
                    break
        writer.close()


def asking(scenario, *answers, most=4):
    async def run():
        server = Server(*answers)
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        connections = KeptConnections("127.0.0.1", listener.sockets[0].getsockname()[1], most)
        try:
            await scenario(server, connections)
        finally:
            await connections.close()
            listener.close()

    uvloop.run(asyncio.wait_for(run(), 60))


def test_a_connection_is_kept():
    async def scenario(server, connections):
        for _ in range(3):
            answer = await connections.ask(lambda: ASK)
            assert (answer.status, answer.headers[b"x-name"], answer.body) == (200, b"value", b"ok")
        assert server.connections == 1

    asking(scenario)


def test_requests_at_a_time_have_a_connection_each():
    async def scenario(server, connections):
        await asyncio.gather(*[connections.ask(lambda: ASK) for _ in range(9)])
        assert 1 < server.connections <= 4

    asking(scenario)


@pytest.mark.parametrize("first", [(TOLD, None), (TOLD.replace(b"\r\n", b"\r\nConnection: close\r\n", 1),)])
def test_the_next_request_finds_another_connection(first):
    async def scenario(server, connections):
        await connections.ask(lambda: ASK)
        assert (await connections.ask(lambda: ASK)).body == b"ok"  # also while it is hanging up
        assert server.connections == 2

    asking(scenario, first)


def test_one_that_was_seen_to_end_is_not_used():
    async def scenario(server, connections):
        await connections.ask(lambda: ASK)
        while connections._idle:
            await asyncio.sleep(0)
        assert (await connections.ask(lambda: ASK)).body == b"ok"
        assert server.connections == 2

    asking(scenario, (TOLD, None))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(b"", None)], "hung up without an answer"),
        ([(TOLD,), (b"", None), (b"", None)], "hung up without an answer"),
        ([(TOLD[:-1], None)], "before its answer was complete"),
        ([(TOLD[:5], None)], "before its answer was complete"),
        ([(b"\0\0\x12\x04\0\0\0\0\0\0\3\0\0\0d",)], "does not speak HTTP"),
    ],
)
def test_no_answer(answers, words):
    async def scenario(_, connections):
        for _ in answers[: len(answers) // 2]:
            await connections.ask(lambda: ASK)
        with pytest.raises(Unreachable, match=words):
            await connections.ask(lambda: ASK)
        assert (await connections.ask(lambda: ASK)).body == b"ok"  # no turn was lost

    asking(scenario, *answers, most=1)


def test_no_server():
    async def run():
        connections = KeptConnections("127.0.0.1", 1, 1)
        for _ in range(2):
            with pytest.raises(Unreachable, match="refused"):
                await connections.ask(lambda: ASK)

    uvloop.run(run())


def test_what_nobody_waits_for_keeps_its_turn_until_it_is_answered():
    async def scenario(server, connections):
        server.go.clear()
        abandoned = asyncio.create_task(connections.ask(lambda: ASK))
        await server.asked.wait()
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        server.asked.clear()
        following = asyncio.create_task(connections.ask(lambda: ASK))
        for _ in range(9):
            await asyncio.sleep(0)
        assert (server.asked.is_set(), server.connections) == (False, 1)
        server.go.set()
        assert (await following).body == b"second"
        assert server.connections == 1

    asking(scenario, (TOLD,), (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond",), most=1)


def test_what_the_server_may_have_done_is_not_sent_again(monkeypatch):
    async def scenario(server, connections):
        await connections.ask(lambda: ASK)
        monkeypatch.setattr(module, "AT_ONCE_S", 0)
        with pytest.raises(Unreachable, match="hung up without an answer"):
            await connections.ask(lambda: ASK)
        assert server.connections == 1
        assert (await connections.ask(lambda: ASK)).body == b"ok"

    asking(scenario, (TOLD,), (b"", None))


@pytest.mark.parametrize("run_in", [uvloop.run, asyncio.run])
def test_a_server_that_hangs_up_at_once(run_in):
    async def run():
        listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        connections = KeptConnections("127.0.0.1", listener.sockets[0].getsockname()[1], 2)
        for _ in range(60):
            asked = [connections.ask(lambda: ASK) for _ in range(8)]
            for ended in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(ended, Unreachable)
        await connections.close()
        listener.close()

    run_in(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize("run_in", [uvloop.run, asyncio.run])
def test_a_connection_that_is_lost_before_it_is_used(run_in):
    async def run():
        server = Server()
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        connections = KeptConnections("127.0.0.1", listener.sockets[0].getsockname()[1], 1)
        connect = connections._connect

        async def lost():
            made = await connect()
            made.abort()
            while made in connections._open:
                await asyncio.sleep(0)
            return made

        connections._connect = lost
        with pytest.raises(Unreachable, match="hung up"):
            await connections.ask(lambda: ASK)
        connections._connect = connect
        assert (await connections.ask(lambda: ASK)).body == b"ok"  # its turn was given back
        await connections.close()
        listener.close()

    run_in(asyncio.wait_for(run(), 60))


def test_a_machine_that_is_gone_is_noticed():
    async def scenario(_, connections):
        await connections.ask(lambda: ASK)
        (connection,) = connections._open
        wire = connection._transport.get_extra_info("socket")
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        told = {option: wire.getsockopt(socket.IPPROTO_TCP, option) for option in module.KEEPALIVE}
        assert told == module.KEEPALIVE

    asking(scenario)


def test_a_host_that_is_none():
    async def run():
        with pytest.raises(Unreachable, match="label"):
            await KeptConnections("a..b", 1, 1).ask(lambda: ASK)

    uvloop.run(run())


@pytest.mark.parametrize("steps", range(4))
def test_giving_up_as_the_connection_comes(steps):
    async def scenario(_, connections):
        asked = asyncio.create_task(connections.ask(lambda: ASK))
        while not connections._open:
            await asyncio.sleep(0)
        for _ in range(steps):  # to where `ask` goes on
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert (await connections.ask(lambda: ASK)).body == b"ok"  # no turn was lost

    asking(scenario, most=1)


def test_one_kind_does_not_take_all_connections():
    async def scenario(server, connections):
        server.go.clear()
        alike = [asyncio.create_task(connections.ask(lambda: ASK, "hangs")) for _ in range(6)]
        while server.connections < 2:
            await asyncio.sleep(0)
        for one in alike[:3]:
            one.cancel()
        others = [asyncio.create_task(connections.ask(lambda: ASK, f"other {n}")) for n in range(2)]
        while server.connections < 4:
            await asyncio.sleep(0)
        assert len(connections._open) == 4
        assert not any(one.done() for one in alike[3:])
        server.go.set()
        for answer in await asyncio.gather(*others, *alike[3:]):
            assert answer.body == b"ok"

    asking(scenario)


def test_a_request_is_written_when_it_is_its_turn():
    async def scenario(server, connections):
        written = []

        def write():
            written.append(server.go.is_set())
            return ASK

        server.go.clear()
        first = asyncio.create_task(connections.ask(lambda: ASK))
        await server.asked.wait()
        second = asyncio.create_task(connections.ask(write))
        for _ in range(9):
            await asyncio.sleep(0)
        server.go.set()
        await asyncio.gather(first, second)
        assert written == [True]

    asking(scenario, most=1)


def test_a_request_that_cannot_be_written():
    async def scenario(_, connections):
        with pytest.raises(ZeroDivisionError):
            await connections.ask(lambda: 1 / 0)
        assert (await connections.ask(lambda: ASK)).body == b"ok"  # no turn was lost

    asking(scenario, most=1)


def test_closing_ends_what_waits_for_its_turn():
    async def scenario(server, connections):
        server.go.clear()
        asked = [asyncio.create_task(connections.ask(lambda: ASK)) for _ in range(3)]
        await server.asked.wait()
        await connections.close()
        for ended in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(ended, Unreachable)
        assert server.connections == 1
        server.go.set()

    asking(scenario, most=1)


def test_closing_ends_what_is_under_way():
    async def scenario(server, connections):
        server.go.clear()
        waiting = asyncio.create_task(connections.ask(lambda: ASK))
        await server.asked.wait()
        await connections.close()
        with pytest.raises(Unreachable):
            await waiting
        server.go.set()

    asking(scenario)
