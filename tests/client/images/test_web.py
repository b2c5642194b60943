"""Images at web addresses: fetched only if that is allowed, bounded in size and time, never from inside."""

import http.server
import json
import threading
from contextlib import contextmanager

import pytest
from PIL import Image

from client import InvalidImage, RequestTimeout, VisionClient
from client.cli.main import main
from client.images import web
from client.images.web import fetched
from export.sources.photographs import photographs
from tests.serving.test_image_decoder import encoded

PHOTO = Image.open(photographs()[0].path).convert("RGB").resize((320, 240))


class Site(http.server.BaseHTTPRequestHandler):
    """A web server with an image, and with what is none."""

    def do_GET(self):
        image = encoded(PHOTO, "PNG")
        if self.path == "/image":
            self._answer(image, "image/png")
        elif self.path == "/page":
            self._answer(b"<html>", "text/html; charset=utf-8")
        elif self.path == "/untyped":
            self._answer(image, "application/octet-stream")
        elif self.path == "/endless":
            self._answer(b"x" * 5_000, "image/png")
        elif self.path == "/cut":
            self._answer(image[:500], "image/png", length=len(image))
        elif self.path == "/dripping":
            self.send_response(200)
            self.end_headers()
            while not self.server.over.wait(0.02):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return
        elif self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        else:
            self.send_error(404)

    def _answer(self, data, kind, length=None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length or len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@contextmanager
def site():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as listening:
        listening.over = threading.Event()
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.over.set()
            listening.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def address():
    with site() as address:
        yield address


def test_an_address_is_fetched_only_if_that_is_allowed(server, address, capsys):
    url = f"{address}/image"
    with VisionClient(server.grpc_url, allow_urls=True) as client:
        found = client.classify([url, PHOTO])
        assert found[0].source == url
        assert found[0].classes == found[1].classes
    with VisionClient(server.grpc_url) as client, pytest.raises(InvalidImage, match="--allow-urls"):
        client.classify(url)
    arguments = ["classify", url, "--json", "--url", server.grpc_url]
    assert main(arguments) == 1
    assert main([*arguments, "--allow-urls"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["image"] == url


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/page", "gives text/html, not an image"),
        ("/missing", "cannot be fetched: 404"),
        ("/cut", "broke off|IncompleteRead"),
        ("/loop", "cannot be fetched"),
        ("/to/file:///etc/passwd", "not allowed|only http and https"),
        ("/to/ftp://127.0.0.1/x", "only http and https are followed"),
    ],
)
def test_what_an_address_may_not_give(address, path, said):
    with pytest.raises(InvalidImage, match=said):
        fetched(f"{address}{path}", 20)


def test_an_address_may_lead_on_to_another(address):
    assert fetched(f"{address}/to/{address}/untyped", 20) == encoded(PHOTO, "PNG")


def test_the_length_of_what_is_fetched_is_bounded(address, monkeypatch):
    monkeypatch.setattr(web, "MAX_DOWNLOAD_BYTES", 1_000)
    with pytest.raises(InvalidImage, match="longer than 1,000 bytes"):
        fetched(f"{address}/endless", 20)


def test_the_time_is_bounded_however_slowly_it_comes(address):
    with pytest.raises(RequestTimeout, match="within 0 s"):
        fetched(f"{address}/dripping", 0.3)


def test_a_public_address_does_not_lead_inside(address, monkeypatch):
    monkeypatch.setattr(web, "_is_public", lambda url: "/to/" in url)
    with pytest.raises(InvalidImage, match="a public address leads on to one that is not"):
        fetched(f"{address}/to/{address}/image", 20)


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("http://127.0.0.1/", False),
        ("http://[::1]:8000/", False),
        ("http://169.254.169.254/latest", False),
        ("http://10.1.2.3/", False),
        ("http://8.8.8.8/", True),
        ("http://no-such-host.invalid/", False),
    ],
)
def test_which_addresses_are_public(url, public):
    assert web._is_public(url) is public


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://",
        "http://:80/x",
        "http://h:99999/",
        "http://h:x/",
        "http://h/\n",
        "http://a..b/",
    ],
)
def test_what_is_no_address_fails_alone(url):
    with pytest.raises(InvalidImage, match="cannot be fetched"):
        fetched(url, 30.0)


def test_no_server_at_an_address():
    with pytest.raises(InvalidImage, match=r"cannot be fetched: .*refused"):
        fetched("http://127.0.0.1:9/x.png", 5)
