"""Clients that go on asking while a server is stopped."""

import json
import threading
from collections import Counter
from http.client import HTTPConnection, HTTPException

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

MODEL = "mobilenet_v2"
IMAGE = np.zeros((1, 224, 224, 3), np.uint8)
BINARY = {
    "inputs": [
        {
            "name": "image",
            "shape": [1, 224, 224, 3],
            "datatype": "UINT8",
            "parameters": {"binary_data_size": IMAGE.size},
        }
    ],
    "parameters": {"binary_data_output": True},
}


def ask_over_http(url: str, asked: threading.Event, keep: bool) -> tuple[Counter[int], str]:
    """Statuses until one is not 200; and what went wrong if the connection ended without an answer.

    asked: set at the first answer, and at the end. keep: the connection; or have a new one for each request.
    """
    header = json.dumps(BINARY).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(header)),
        "Content-Type": "application/octet-stream",
    }
    statuses: Counter[int] = Counter()
    connection = HTTPConnection(url)
    try:
        while statuses[200] == statuses.total():
            connection.request("POST", f"/v2/models/{MODEL}/infer", header + IMAGE.tobytes(), headers)
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] += 1
            asked.set()
            if not keep:
                connection.close()  # the next request opens it again
    except (OSError, HTTPException) as error:
        return statuses, f"{type(error).__name__}: {error}"
    finally:
        asked.set()
        connection.close()
    return statuses, ""


def ask_over_grpc(url: str, asked: threading.Event) -> Counter[str]:
    """Status codes, until nothing answers any more."""
    codes: Counter[str] = Counter()
    image = grpc.InferInput("image", list(IMAGE.shape), "UINT8")
    image.set_data_from_numpy(IMAGE)
    with grpc.InferenceServerClient(url) as client:
        while True:
            try:
                client.infer(MODEL, [image])
                codes["OK"] += 1
                asked.set()
            except InferenceServerException as error:
                codes[str(error.status()).removeprefix("StatusCode.")] += 1
                if "failed to connect" in str(error):
                    asked.set()
                    return codes
