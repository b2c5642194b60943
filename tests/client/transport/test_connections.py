"""A transport that is closed while others ask: whoever asks is told, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from client import InferenceFailed
from client.transport.address import Address
from client.transport.connections import open_async, open_blocking
from client.transport.protocol import Call

ASK = Call("get_server_metadata", timeout_s=60)


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
def test_asyncio_hears_it_too(protocol, silent_port):
    async def run():
        transport = open_async(Address.parse(f"{protocol}://127.0.0.1:{silent_port}"), 1)
        under_way = asyncio.create_task(transport.perform(ASK))
        await asyncio.sleep(0)  # it has begun
        await transport.close()
        for asked in (under_way, transport.perform(ASK)):
            with pytest.raises(InferenceFailed, match="the client was closed"):
                await asked

    asyncio.run(run())


def test_what_is_asked_during_the_close_does_not_hang(silent_port, monkeypatch):
    """Between the last look at what is under way and the end of the event loop."""
    transport = open_blocking(Address.parse(f"http://127.0.0.1:{silent_port}"), 1)
    loop = transport._loop
    sent, outcome = threading.Event(), []

    def ask():
        try:
            outcome.append(transport.perform(ASK))
        except InferenceFailed as error:
            outcome.append(error)
        finally:
            sent.set()

    late = threading.Thread(target=ask, daemon=True)
    call_soon = loop.call_soon_threadsafe

    def call_soon_after_one_more(callback, *arguments):
        if callback == loop.stop:
            monkeypatch.undo()
            late.start()
            sent.wait(1)  # without a refusal it is sent now, and nobody would ever answer
        return call_soon(callback, *arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", call_soon_after_one_more)
    transport.close()
    late.join(10)
    assert not late.is_alive()
    assert "the client was closed" in str(outcome)
