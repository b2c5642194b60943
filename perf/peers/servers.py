"""The servers that are compared: each started with its job, asked in its own protocol, and stopped for good.

Ours is the model repository under the real tritonserver, KServe v2 with binary tensors over HTTP. A peer is a
program in perf/peers with a virtual environment of its own.
"""

import base64
import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from perf.harness.errors import PerfError
from perf.harness.generators.wrk import Post
from perf.harness.inputs import read_config
from perf.harness.serving import THREADS_KEY, configured, needed
from perf.harness.venvs import environment
from perf.peers.jobs import ComparedJob
from server import TritonServer, config_path
from server.environment.ports import choose_ports
from server.running.ending import free_to_wait

__all__ = ["PEERS", "Layout", "Ours", "Peer", "post"]

FOLDER = Path(__file__).parent
ADDRESS = "127.0.0.1"
START_TIMEOUT_S = 120
GRACE_S = 10  # between asking a peer to stop and killing what is left of it
MARK = "TRITON_VISION_COMPARE"  # in the environment of every process that a peer starts
TOP = 5
BOXES = ("boxes", "scores", "class_ids")


@dataclass(frozen=True)
class Layout:
    """`workers` processes, or instances of a model, of `threads` threads of ONNX Runtime each."""

    workers: int
    threads: int

    def __str__(self) -> str:
        return f"{self.workers}x{self.threads}"


@dataclass(frozen=True)
class Ours:
    """tritonserver. Layout 2x1 is the repository as it is; others are set in a copy of it.

    cnn        the network instead of the one that the config names, such as its INT8 sibling
    http_threads  of tritonserver; its default is 8
    ensemble   recognize_objects as config.pbtxt has it, for a GPU: decoder and CNN are models of their own
    """

    layout: Layout = Layout(2, 1)
    cnn: str | None = None
    http_threads: int | None = None
    ensemble: bool = False
    title: str = "triton-vision"

    def __str__(self) -> str:
        extra = [self.cnn.rpartition("_")[2]] if self.cnn else []
        extra += [f"{self.http_threads} HTTP threads"] if self.http_threads else []
        extra += ["ensemble"] if self.ensemble else []
        return ", ".join([f"{self.title} {self.layout}", *extra])

    def fits(self, job: str) -> bool:
        """Whether the setting changes anything of a job of that name: ensemble and CNN are of photographs."""
        return not (self.cnn or self.ensemble) or job.startswith("jpeg")

    def commands(self) -> list[str]:
        """For people, in raw results; from its fourth word on, arguments of tritonserver."""
        more = [f"--http-thread-count={self.http_threads}"] if self.http_threads else []
        return ["python", "-m", "server", *more]

    @contextlib.contextmanager
    def running(self, job: ComparedJob) -> Iterator[str]:
        """Serve the job; gives "address:port". Raises `PerfError` if a model is not ready."""
        with (
            configured("") if self.ensemble else contextlib.nullcontext(),
            tempfile.TemporaryDirectory(prefix="triton-vision-compare-") as scratch,
        ):
            repository = self._repository(job, Path(scratch))
            names = needed(job.model, repository)
            arguments = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in names)]
            arguments += self.commands()[3:]
            with TritonServer(repository, log=Path(scratch) / "log", arguments=arguments) as server:
                ready = {model.name for model in server.models() if model.ready}
                if wrong := [name for name in names if name not in ready]:
                    raise PerfError(f"not ready: {', '.join(wrong)}; `make export` makes the graphs")
                yield server.http_url

    def request(self, job: ComparedJob, body: bytes) -> Post:
        """KServe v2 with binary tensors: FP32 [1, 32, 32] of the GRU, else a file as BYTES [1, 1]."""
        if job.kind == "gru":
            tensor = InferInput("sequence", [1, 32, 32], "FP32")
            tensor.set_data_from_numpy(np.frombuffer(body, np.float32).reshape(1, 32, 32))
            outputs = [InferRequestedOutput("probabilities")]
        else:
            tensor = InferInput("encoded_image", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[body]], object))
            names = {"text": ("text", "confidence"), "detect": BOXES}
            outputs = [InferRequestedOutput(name) for name in names.get(job.kind, ())]
            outputs = outputs or [InferRequestedOutput("probabilities", class_count=TOP)]
        content, length = InferenceServerClient.generate_request_body([tensor], outputs=outputs)
        headers = (("Inference-Header-Content-Length", str(length)),)
        return Post(f"/v2/models/{job.model}/infer", bytes(content), headers)

    def answer(self, job: ComparedJob, content: bytes, headers: dict[str, str]) -> Any:
        """Ten probabilities of the GRU, [text, confidence], five of [[class, probability], ...], or all of
        [[class, score, box], ...]."""
        length = headers.get("inference-header-content-length")
        result = InferenceServerClient.parse_response_body(
            content, header_length=int(length) if length else None
        )
        if job.kind == "text":
            return [result.as_numpy("text").item().decode(), float(result.as_numpy("confidence").item())]
        if job.kind == "detect":
            boxes, scores, numbers = (result.as_numpy(name)[0].tolist() for name in BOXES)
            return [list(one) for one in zip(numbers, scores, boxes, strict=True)]
        values = result.as_numpy("probabilities")
        if job.kind == "gru":
            return values[0].tolist()
        fields = [value.decode().split(":") for value in values.reshape(-1)]  # "probability:class:label"
        return [[int(field[1]), float(field[0])] for field in fields]

    def _repository(self, job: ComparedJob, scratch: Path) -> Path:
        if self.layout == Layout(2, 1) and not self.cnn:
            return job.repository
        copy = scratch / "models"
        names = needed(job.model, job.repository) + ([self.cnn] if self.cnn else [])
        for name in names:
            shutil.copytree(job.repository / name, copy / name)
            config = read_config(name, copy)
            if THREADS_KEY in config.parameters:
                set_layout(config, self.layout)
            if self.cnn and config.ensemble_scheduling.step:
                config.ensemble_scheduling.step[-1].model_name = self.cnn
            elif self.cnn and "cnn" in config.parameters:
                config.parameters["cnn"].string_value = self.cnn
            config_path(copy, name).write_text(text_format.MessageToString(config))
        return copy


def set_layout(config: ModelConfig, layout: Layout) -> None:
    """Write it into `config` itself; 2x1 changes nothing, as that is what models have."""
    if layout != Layout(2, 1):
        del config.instance_group[:]
        config.instance_group.add().count = layout.workers
        config.parameters[THREADS_KEY].string_value = str(layout.threads)


@dataclass(frozen=True)
class Peer:
    """A program in perf/peers/`name`. `protocol`: "raw" bytes in and JSON out, or "bentoml", "mlserver"."""

    name: str
    title: str
    protocol: str = "raw"
    layout: Layout = Layout(2, 1)

    def __str__(self) -> str:
        return f"{self.title} {self.layout}"

    def versions(self) -> dict[str, str]:
        """Raises `NotInstallable`."""
        return environment(FOLDER / self.name / "requirements.txt").versions()

    def commands(self) -> list[str]:
        """For people, in raw results; it runs with the peer's own Python."""
        return ["python", f"perf/peers/{self.name}/app.py"]

    @contextlib.contextmanager
    def running(self, job: ComparedJob) -> Iterator[str]:
        """As `Ours.running`; raises `NotInstallable` too."""
        python = environment(FOLDER / self.name / "requirements.txt").python
        ports = choose_ports(ADDRESS, {"http": 0, "second": 0})
        host, token = f"{ADDRESS}:{ports['http']}", secrets.token_hex(8)
        with tempfile.TemporaryDirectory(prefix="tv-", ignore_cleanup_errors=True) as scratch:
            log = Path(scratch) / "log"
            variables = {
                **os.environ,
                **job.variables(self.layout.threads),
                "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str((FOLDER / "shared").resolve()),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PEER_WORKERS": str(self.layout.workers),
                "PEER_PORT": str(ports["http"]),
                "PEER_SECOND_PORT": str(ports["second"]),
                "PEER_SCRATCH": scratch,
                "BENTOML_HOME": f"{scratch}/bentoml",
                "BENTOML_DO_NOT_TRACK": "True",
                "RAY_USAGE_STATS_ENABLED": "0",
                MARK: token,
            }
            with log.open("wb") as file:
                process = subprocess.Popen(
                    [str(python), "app.py"],
                    cwd=FOLDER / self.name,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches us alone; we then stop it in order
                )
            try:
                self._wait(process, host, self.request(job, job.bodies[0]), log)
                yield host
            finally:
                stop(process, token)

    def _wait(self, process: subprocess.Popen[bytes], host: str, request: Post, log: Path) -> None:
        """Until the first right status of an answer; a program that fails at the job is not waited for."""
        deadline, told, failures = time.monotonic() + START_TIMEOUT_S, "no connection", 0
        while time.monotonic() < deadline and process.poll() is None and failures < 5:
            try:
                status, content, _ = post(host, request)
                if status == 200:
                    return
                told = f"status {status}: {content[:300]!r}"
                failures += status == 500  # 404 and 503 are answers of a server that is not ready yet
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.2)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        how = f"ended with status {process.returncode}" if process.poll() is not None else told
        raise PerfError(f"{self} did not start ({how}); from its log:\n{tail}")

    def request(self, job: ComparedJob, body: bytes) -> Post:
        """Raw bytes, or JSON of the peer's protocol: a file as base64, the GRU's sequence as numbers."""
        if self.protocol == "raw":
            return Post("/infer", body, (("Content-Type", "application/octet-stream"),))
        values = np.frombuffer(body, np.float32).tolist() if job.kind == "gru" else None
        text = None if values else base64.b64encode(body).decode()
        if self.protocol == "bentoml":
            path = "/sequences" if values else "/infer"
            item = np.reshape(values, (32, 32)).tolist() if values else text
            content = {"inputs": [item]}
        else:
            path = "/v2/models/work/infer"
            tensor = (
                {"name": "body", "datatype": "FP32", "shape": [1, 1024], "data": values}
                if values
                else {"name": "body", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
            )
            content = {"inputs": [tensor]}
        return Post(path, json.dumps(content).encode(), (("Content-Type", "application/json"),))

    def answer(self, job: ComparedJob, content: bytes, headers: dict[str, str]) -> Any:
        """In the form of `Ours.answer`, out of the peer's JSON."""
        found = json.loads(content)
        if self.protocol == "bentoml":
            return found[0]
        if self.protocol == "mlserver":
            return json.loads(found["outputs"][0]["data"][0])
        return found


PEERS = {
    peer.name: peer
    for peer in (
        Peer("fastapi", "FastAPI + ONNX Runtime"),
        Peer("litserve", "LitServe"),
        Peer("bentoml", "BentoML", "bentoml"),
        Peer("mlserver", "MLServer", "mlserver"),
        Peer("rayserve", "Ray Serve"),
    )
}


def post(host: str, request: Post) -> tuple[int, bytes, dict[str, str]]:
    """Status, content and headers (lower case) of one answer."""
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, response.read(), headers
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes], token: str, grace_s: float = GRACE_S) -> None:
    """Ask the program to end, then kill every process that carries our token: some leave their parents."""
    free_to_wait(process)
    try:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    finally:  # Ctrl-C while it ends must not leave it behind
        deadline = time.monotonic() + GRACE_S
        while (left := marked(token)) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        free_to_wait(process)
        process.wait()


def marked(token: str) -> list[int]:
    """Processes, not zombies, with our token in their environment."""
    wanted = f"{MARK}={token}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
