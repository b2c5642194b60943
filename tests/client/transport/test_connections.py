"""A transport that is closed while others ask: whoever asks is told, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading

import pytest

from client import InferenceFailed
from client.transport.address import Address
from client.transport.connections import open_async, open_blocking
from client.transport.protocol import Call

ASK = Call("get_server_metadata", timeout_s=60)
ASK_OTHERWISE = Call("is_server_live", timeout_s=60)


@pytest.fixture
def silent_port():
    """Takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_is_asked_after_the_close_fails(protocol, silent_port):
    transport = open_blocking(Address.parse(f"{protocol}://127.0.0.1:{silent_port}"), 1)
    transport.close()
    with pytest.raises(InferenceFailed, match="the client was closed"):
        transport.perform(ASK)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("turns", [1, 2, 3, 10])
def test_asyncio_hears_it_too(protocol, turns, silent_port):
    """Also what waits for the only connection."""

    async def run():
        transport = open_async(Address.parse(f"{protocol}://127.0.0.1:{silent_port}"), 1)
        under_way = [asyncio.create_task(transport.perform(ASK)) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)  # it begins
        await transport.close()
        for asked in (*under_way, transport.perform(ASK)):
            with pytest.raises(InferenceFailed, match="the client was closed"):
                await asked

    asyncio.run(run())


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("turns", range(4))
def test_a_cancellation_is_not_lost_to_the_answer(protocol, turns, silent_port, monkeypatch):
    """One that comes once the answer is there, and before it is taken."""

    async def run():
        transport = open_async(Address.parse(f"{protocol}://127.0.0.1:{silent_port}"), 1)
        answer = asyncio.get_running_loop().create_future()

        async def answered(**arguments):
            return await answer

        monkeypatch.setattr(transport._client, ASK.method, answered)
        asking = asyncio.create_task(transport.perform(ASK))
        for _ in range(5):
            await asyncio.sleep(0)  # it waits
        answer.set_result({})
        for _ in range(turns):
            await asyncio.sleep(0)
        if asking.cancel():
            with pytest.raises(asyncio.CancelledError):
                await asking
        await transport.close()

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(8))
def test_a_turn_is_not_lost_with_a_request_that_is_cancelled(turns):
    """Of three that want the only connection the second is cancelled, as its turn comes or about then."""

    def asked(listener):
        connection, _ = listener.accept()
        with connection:
            return connection.recv(1000)

    async def run(listener):
        transport = open_async(Address.parse(f"http://127.0.0.1:{listener.getsockname()[1]}"), 1)
        asking = [asyncio.create_task(transport.perform(step)) for step in (ASK, ASK, ASK_OTHERWISE)]
        assert b"/v2 " in await asyncio.to_thread(asked, listener)
        asking[0].cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        asking[1].cancel()
        while b"/v2/health/live" not in await asyncio.to_thread(asked, listener):
            pass
        await transport.close()
        await asyncio.gather(*asking, return_exceptions=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        asyncio.run(run(listener))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_transport_that_is_dropped_leaves_no_thread(protocol, silent_port):
    before = set(threading.enumerate())
    transport = open_blocking(Address.parse(f"{protocol}://127.0.0.1:{silent_port}"), 1)
    threads = set(threading.enumerate()) - before
    del transport
    gc.collect()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_what_is_asked_during_the_close_does_not_hang(silent_port, monkeypatch):
    """Between the last look at what is under way and the end of the event loop."""
    transport = open_blocking(Address.parse(f"http://127.0.0.1:{silent_port}"), 1)
    sent, outcome = threading.Event(), []

    def ask():
        try:
            outcome.append(transport.perform(ASK))
        except InferenceFailed as error:
            outcome.append(error)
        finally:
            sent.set()

    late = threading.Thread(target=ask, daemon=True)
    close = transport._transport.close

    async def close_after_one_more():
        await close()
        late.start()
        sent.wait(1)  # without a refusal it is sent now, and nobody would ever answer

    monkeypatch.setattr(transport._transport, "close", close_after_one_more)
    transport.close()
    late.join(10)
    assert not late.is_alive()
    assert "the client was closed" in str(outcome)
