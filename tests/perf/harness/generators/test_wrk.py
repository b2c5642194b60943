"""wrk posts what it is given, and errors are no measurement."""

import contextlib
import http.server
import threading

import pytest

from perf.harness.errors import PerfError
from perf.harness.generators.wrk import Post, find_wrk


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.add((body, self.headers.get("X-Kind")))
        self.send_response(500 if body == b"bad" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def http_server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.bodies = set()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def wrk():
    try:
        return find_wrk()
    except PerfError as error:
        pytest.skip(str(error))


def test_wrk_posts_the_bodies_in_turn(wrk):
    bodies = [b"\x00\xff\r\n\r\n1", b"", b"23\n"]
    with http_server() as (server, host):
        found = wrk.run(host, [Post("/", body, (("X-Kind", "a"),)) for body in bodies], 2, 1)
    assert server.bodies == {(body, "a") for body in bodies}
    assert found["requests"] > len(bodies)
    assert 0 < found["p50_ms"] <= found["p99_ms"]


def test_a_load_with_errors_is_no_measurement(wrk):
    with http_server() as (_, host), pytest.raises(PerfError, match="status"):
        wrk.run(host, [Post("/", b"good"), Post("/", b"bad")], 2, 1)
