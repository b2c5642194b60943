"""A steady load through the gateway, over HTTP and gRPC alike; what became of each request is counted."""

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

REFUSALS_OF_HTTP = (429, 503)
REFUSALS_OF_GRPC = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
TIMEOUT_S = 60.0


@dataclass
class Counted:
    """answered: rightly. refused: told to ask again. lost: anything else. seconds: of those answered."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    reasons: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        ms = np.percentile(self.seconds, [50, 99, 100]) * 1000 if self.seconds else [0, 0, 0]
        return (
            f"{self.sent} sent, {self.answered} answered, {self.refused} refused, {self.lost} lost; "
            f"p50 {ms[0]:.1f}, p99 {ms[1]:.0f}, longest {ms[2]:.0f} ms {dict(self.reasons) or ''}"
        )


class Load:
    """Asks a model that adds 1, `rate` times a second in all, until `stop()`; half of the threads over gRPC.

    Nothing is sent again. A thread that waits for an answer sends later, so a slow server gets less.
    """

    def __init__(self, port: int, key: str, certificate: Path, model: str, rate: float, threads: int = 8):
        self._port, self._key, self._certificate, self._model = port, key, certificate, model
        self._pause = threads / rate
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.counted = Counted()
        kinds = (self._over_http, self._over_grpc)
        self._threads = [
            threading.Thread(target=self._send, args=(kinds[number % 2], number), daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Counted:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        return self.counted

    def _send(self, ask, number: int) -> None:
        due = time.monotonic() + self._pause * number / len(self._threads)
        with contextlib.closing(ask()) as asked:
            next(asked)
            value = 0
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                due = max(due + self._pause, time.monotonic() - self._pause)
                value += 1
                began = time.monotonic()
                what, reason = asked.send(float(value))
                took = time.monotonic() - began
                with self._lock:
                    self.counted.sent += 1
                    setattr(self.counted, what, getattr(self.counted, what) + 1)
                    if what == "answered":
                        self.counted.seconds.append(took)
                    else:
                        self.counted.reasons[f"{time.strftime('%H:%M:%S')} {reason}"] += 1

    def _over_http(self):
        context = ssl.create_default_context(cafile=str(self._certificate))
        headers = {"x-api-key": self._key, "content-type": "application/json"}
        path, connection, outcome = f"/v2/models/{self._model}/infer", None, None
        while True:
            value = yield outcome
            body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [value]}]}
            try:
                if connection is None:
                    connection = http.client.HTTPSConnection(
                        "localhost", self._port, context=context, timeout=TIMEOUT_S
                    )
                connection.request("POST", path, json.dumps(body), headers)
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status == 200:
                    right = json.loads(text)["outputs"][0]["data"] == [value + 1]
                    outcome = ("answered", "") if right else ("lost", f"a wrong answer {text}")
                else:
                    refused = answer.status in REFUSALS_OF_HTTP
                    outcome = ("refused" if refused else "lost", f"HTTP {answer.status} {text.strip()}")
            except (OSError, http.client.HTTPException) as error:
                connection, outcome = None, ("lost", f"HTTP {error!r}")

    def _over_grpc(self):
        outcome = None
        with grpc.InferenceServerClient(
            f"localhost:{self._port}", ssl=True, root_certificates=str(self._certificate)
        ) as client:
            while True:
                value = yield outcome
                tensor = grpc.InferInput("x", [1], "FP32")
                tensor.set_data_from_numpy(np.array([value], np.float32))
                try:
                    answer = client.infer(
                        self._model, [tensor], headers={"x-api-key": self._key}, client_timeout=TIMEOUT_S
                    )
                    right = answer.as_numpy("y")[0] == value + 1
                    outcome = ("answered", "") if right else ("lost", "a wrong answer over gRPC")
                except InferenceServerException as error:
                    status = str(error.status()).removeprefix("StatusCode.")
                    outcome = ("refused" if status in REFUSALS_OF_GRPC else "lost", f"gRPC {error}")
