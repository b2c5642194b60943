"""TLS and mutual TLS between a client and what stands before the server."""

import asyncio
import socketserver
import ssl
import threading
from contextlib import contextmanager, suppress

import pytest
from PIL import Image

from client import AccessDenied, AsyncVisionClient, ServerUnavailable, VisionClient
from tests.certificates import self_signed

PROTOCOLS = ("grpc", "http")
GREY = Image.new("RGB", (8, 8), "grey")


def ask(url, **options):
    with VisionClient(url, **options) as client:
        return client.classify(GREY)


async def ask_async(url, **options):
    async with AsyncVisionClient(url, **options) as client:
        return await client.classify(GREY)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost that both sides of mutual TLS use, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@contextmanager
def tls_in_front_of(server, protocol, chain, key, mutual=False):
    """A TLS gateway on a free port, as Triton's own HTTP port has none."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["h2"] if protocol == "grpc" else ["http/1.1"])
    if mutual:
        context.load_verify_locations(chain)
        context.verify_mode = ssl.CERT_REQUIRED
    target = (server.grpc_url if protocol == "grpc" else server.http_url).split(":")

    async def forward(reader, writer):
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection(*target)
        await asyncio.gather(forward(reader, upstream_writer), forward(upstream_reader, writer))

    loop = asyncio.new_event_loop()
    gateway = loop.run_until_complete(asyncio.start_server(accept, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield gateway.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        gateway.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls(protocol, server, certificate):
    chain, key = certificate
    with tls_in_front_of(server, protocol, chain, key) as port:
        url = f"{protocol}s://localhost:{port}"
        expected = ask(server.grpc_url).best.label
        assert ask(url, root_certificates=chain).best.label == expected
        assert asyncio.run(ask_async(url, root_certificates=chain)).best.label == expected
        with pytest.raises(AccessDenied, match="root"):
            ask(url, retries=0)
        with pytest.raises(ServerUnavailable):
            ask(f"{protocol}://localhost:{port}", retries=0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mutual_tls(protocol, server, certificate):
    chain, key = certificate
    with tls_in_front_of(server, protocol, chain, key, mutual=True) as port:
        url = f"{protocol}s://localhost:{port}"
        own = {"certificate_chain": chain, "private_key": key}
        assert ask(url, root_certificates=chain, **own).best.label == ask(server.grpc_url).best.label
        with pytest.raises((ServerUnavailable, AccessDenied)):
            ask(url, root_certificates=chain, retries=0)


class Plain(socketserver.BaseRequestHandler):
    """What HAProxy says to a handshake on a port without TLS."""

    def handle(self):
        self.request.recv(65536)
        self.request.sendall(b"HTTP/1.0 400 Bad request\r\n\r\n")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_port_without_tls(protocol):
    with socketserver.TCPServer(("127.0.0.1", 0), Plain) as plain:
        thread = threading.Thread(target=plain.serve_forever)
        thread.start()
        try:
            with pytest.raises(AccessDenied, match="speaks no TLS"):
                ask(f"{protocol}s://127.0.0.1:{plain.server_address[1]}", retries=0)
        finally:
            plain.shutdown()
            thread.join()
