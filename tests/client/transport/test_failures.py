"""What is answered in JSON, and not as Triton does: something else listens at that address."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from client import ServerUnavailable, VisionClient

IMAGE = np.zeros((2, 2, 3), np.uint8)
CONFIG = """{
    "name": "cnn",
    "input": [{"name": "image", "data_type": "TYPE_UINT8", "dims": [2, 2, 3]}],
    "output": [{"name": "probabilities"}]
}"""


@pytest.fixture(params=['{"model_stats": 3}', "[]", '"ok"', "null", '[{"status": "ok"}]'])
def other(request):
    """The address of something that answers everything so, but the configuration of a model `cnn`."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write((CONFIG if "cnn" in self.path else request.param).encode())

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(request.param.encode())

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.classify(IMAGE, model="cnn"),
        lambda client: client.classify(IMAGE, model="another"),
        lambda client: client.stream_text(grpc_stream=True).send(np.zeros((32, 32), np.uint8)),
        lambda client: client.health(),
        lambda client: client.statistics("another"),
    ],
    ids=["inference", "configuration", "stream", "health", "statistics"],
)
def test_something_else(other, ask):
    something_else = pytest.raises(ServerUnavailable, match="something else answered")
    with VisionClient(other, retries=0) as client, something_else:
        ask(client)
