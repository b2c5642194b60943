"""What the gateway of `python -m server --gateway` costs: Triton asked directly and through it, side by side.

    python -m perf haproxy

Four ways to the same server: (A) directly, (B) through HAProxy alone, which hands on what it gets, with
buffers and windows as large as the gateway's, (C) through one that also keeps each request to send it again,
and (D) through the gateway with its keys, limits, rules and log. Four kinds of requests, one at a time, in
short turns: a JPEG over gRPC and over HTTP, and questions about the model over both. Then JPEGs over gRPC,
several at a time, A and D alternating. Prints medians, what each way adds, HAProxy's CPU time for a request,
and the ratio of throughput; writes the raw results with the machine and the versions.
"""

import argparse
import contextlib
import http.client
import json
import os
import statistics
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as triton_messages

from export.sources.photographs import photographs
from perf.harness.commands import add_result_options, hand_over, load_average, say
from perf.harness.errors import PerfError
from perf.harness.generators.grpc_bytes import drive
from perf.harness.generators.turns import Turns, in_turns
from perf.harness.inputs import REPOSITORY
from perf.harness.machine import cpu_seconds
from perf.harness.raw import RawResult, model_facts, output_path, record
from perf.harness.serving import serving
from server.environment.ports import choose_ports
from server.operations.gateway.config.files import CONFIG_FILE
from server.operations.gateway.gateway import Gateway
from server.operations.gateway.keys import Grant, add, new_key
from server.operations.gateway.process import HAProxy, find_haproxy
from server.operations.gateway.runtime import Runtime
from server.operations.gateway.settings import Settings, Upstream

DIRECT, BARE, KEPT, THROUGH = "direct", "bare", "kept", "gateway"
JPEG_GRPC, JPEG_HTTP, READY_GRPC, METADATA_HTTP = "jpeg_grpc", "jpeg_http", "ready_grpc", "metadata_http"
KINDS = {
    JPEG_GRPC: "a JPEG over gRPC",
    JPEG_HTTP: "a JPEG over HTTP",
    READY_GRPC: "ModelReady over gRPC",
    METADATA_HTTP: "metadata over HTTP",
}
SHORT = 5  # times as many of those that take no inference
SERVICE = "/inference.GRPCInferenceService/"
HOST = "127.0.0.1"
AT_A_TIME = 1000  # more than are sent
TUNING = ("tune.buf", "tune.h2", "tune.http")  # all but what Lua needs, of which a bare one has none
BARE_CONFIG = """\
global
    stats socket {socket} mode 600 level admin
{tuning}

defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s

frontend all
    bind {host}:{port}
    use_backend grpc if {{ req.hdr(content-type) -m beg application/grpc }}
    default_backend http

backend grpc
    http-reuse always{kept}
    server s1 {grpc} proto h2

backend http
    http-reuse always{kept}
    server s1 {http}
"""
KEEPS = """
    http-request wait-for-body time 20s if METH_POST
    retry-on conn-failure empty-response"""


@dataclass(frozen=True)
class Way:
    """host:port of both interfaces, and what stands there. pid: 0 is nothing."""

    http_url: str
    grpc_url: str
    pid: int = 0

    def cpu_s(self) -> float:
        """That this process has used."""
        return cpu_seconds(self.pid) if self.pid else 0.0


@dataclass(frozen=True)
class Requests:
    """What is asked of a model that takes a file, and the key to ask with."""

    model: str
    input_name: str
    file: bytes
    key: str

    @property
    def element(self) -> bytes:
        """The tensor's bytes."""
        return struct.pack("<I", len(self.file)) + self.file

    def message(self) -> bytes:
        """Of ModelInfer."""
        request = triton_messages.ModelInferRequest(model_name=self.model)
        request.inputs.add(name=self.input_name, datatype="BYTES", shape=[1, 1])
        request.raw_input_contents.append(self.element)
        return bytes(request.SerializeToString())

    def post(self) -> tuple[bytes, dict[str, str]]:
        """The same over HTTP: body and headers."""
        size = {"binary_data_size": len(self.element)}
        entry = {"name": self.input_name, "datatype": "BYTES", "shape": [1, 1], "parameters": size}
        head = json.dumps({"inputs": [entry]}).encode()
        headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(head)),
        }
        return head + self.element, headers

    @contextlib.contextmanager
    def asking(self, kind: str, way: Way) -> Iterator[Callable[[], object]]:
        """Within, a function that asks once, on one connection; an answer that is none of 200 is an error."""
        asking = self._grpc if kind in (JPEG_GRPC, READY_GRPC) else self._http
        with asking(kind, way) as ask:
            yield ask

    @contextlib.contextmanager
    def _grpc(self, kind: str, way: Way) -> Iterator[Callable[[], object]]:
        ready = triton_messages.ModelReadyRequest(name=self.model).SerializeToString()
        method, body = ("ModelInfer", self.message()) if kind == JPEG_GRPC else ("ModelReady", ready)
        with grpc.insecure_channel(
            way.grpc_url, options=[("grpc.max_receive_message_length", -1)]
        ) as channel:
            call = channel.unary_unary(SERVICE + method)
            yield lambda: call(body, metadata=[("x-api-key", self.key)])

    @contextlib.contextmanager
    def _http(self, kind: str, way: Way) -> Iterator[Callable[[], object]]:
        path, body, headers = f"/v2/models/{self.model}", b"", dict[str, str]()
        if kind == JPEG_HTTP:
            path, (body, headers) = f"{path}/infer", self.post()
        connection = http.client.HTTPConnection(way.http_url)

        def ask() -> None:
            connection.request(
                "POST" if body else "GET", path, body or None, {"x-api-key": self.key, **headers}
            )
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise PerfError(f"{path} at {way.http_url} was refused: {answer.status} {text.decode()}")

        with contextlib.closing(connection):
            yield ask


def run(arguments: argparse.Namespace) -> int:
    """Measure all ways in turn; returns 0. Raises `PerfError` for a model that takes no files."""
    output = output_path(arguments.output, "haproxy")
    find_haproxy()
    load_average()
    photograph = photographs()[0].path.read_bytes()
    key, digest = new_key()
    with (
        tempfile.TemporaryDirectory(prefix="triton-vision-perf-") as scratch,
        serving(arguments.model) as served,
    ):
        if [(tensor.data_type, list(tensor.dims)) for tensor in served.config.input] != [(13, [1])]:
            raise PerfError(f"{arguments.model} takes no files; choose one such as recognize_objects")
        requests = Requests(arguments.model, served.config.input[0].name, photograph, key)
        rounds = []
        with standing(
            Path(scratch),
            served.http_url,
            served.grpc_url,
            Grant("perf", digest, rate=100 * AT_A_TIME, concurrency=AT_A_TIME),
        ) as ways:
            for number in range(1, arguments.rounds + 1):
                taken: dict[str, Any] = {"load_average": os.getloadavg()[0]}
                for kind in KINDS:
                    many = 1 if kind in (JPEG_GRPC, JPEG_HTTP) else SHORT
                    taken[kind] = asked_in_turns(requests, kind, ways, many * arguments.requests)
                taken["throughput"] = throughputs(
                    Path(scratch), requests, ways, arguments.concurrency, arguments.seconds
                )
                rounds.append(taken)
                say(f"round {number} of {arguments.rounds}: {_told(taken)}")
    raw = record(
        "haproxy",
        model=model_facts(REPOSITORY, arguments.model),
        request_bytes=len(photograph),
        requests=arguments.requests,
        concurrency=arguments.concurrency,
        seconds=arguments.seconds,
        rounds=rounds,
    )
    hand_over(raw, output, as_json=arguments.json, show=print_summary)
    return 0


@contextlib.contextmanager
def standing(folder: Path, http_url: str, grpc_url: str, grant: Grant) -> Iterator[dict[str, Way]]:
    """Within, all ways to the server at these addresses are open."""
    keys, log = folder / "keys.txt", os.open(os.devnull, os.O_WRONLY)
    keys.write_text(add("", grant))
    ports = choose_ports(HOST, dict.fromkeys((BARE, KEPT, THROUGH, "metrics"), 0))
    settings = Settings(
        folder / "gateway", port=ports[THROUGH], metrics_port=ports["metrics"], concurrency=AT_A_TIME
    )
    gateway = Gateway(settings, keys, lambda: {REPOSITORY: 0}, log=log)
    ways = {DIRECT: Way(http_url, grpc_url)}
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, log)
        stack.callback(gateway.stop)
        gateway.start({"s1": Upstream(HOST, _port(http_url), _port(grpc_url))})
        config = (settings.folder / CONFIG_FILE).read_text()
        lines = [line for line in config.splitlines() if line.strip().startswith(TUNING)]
        for name, kept in ((BARE, ""), (KEPT, KEEPS)):
            file, socket = folder / f"{name}.cfg", folder / f"{name}.sock"
            file.write_text(
                BARE_CONFIG.format(
                    socket=socket, tuning="\n".join(lines), kept=kept, host=HOST, port=ports[name],
                    http=http_url, grpc=grpc_url,
                )
            )  # fmt: skip
            process = HAProxy(find_haproxy(), file, Runtime(socket), log, restart=False)
            stack.callback(process.stop)
            process.start()
            ways[name] = _one_port(ports[name], process)
        assert gateway.process
        ways[THROUGH] = _one_port(settings.port, gateway.process)
        yield ways


def _one_port(port: int, process: HAProxy) -> Way:
    return Way(f"{HOST}:{port}", f"{HOST}:{port}", process.pid or 0)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def asked_in_turns(requests: Requests, kind: str, ways: dict[str, Way], many: int) -> dict[str, Turns]:
    """So many requests of a kind by each way: medians, and HAProxy's CPU time."""
    with contextlib.ExitStack() as stack:
        asks = {name: stack.enter_context(requests.asking(kind, way)) for name, way in ways.items()}
        return in_turns(asks, {name: way.cpu_s for name, way in ways.items()}, many)


def throughputs(
    folder: Path, requests: Requests, ways: dict[str, Way], concurrency: int, seconds: float
) -> dict[str, float]:
    """JPEGs per second over gRPC, directly and through the gateway."""
    body = folder / "message"
    body.write_bytes(requests.message())
    return {
        name: drive(
            ways[name].grpc_url, f"{SERVICE}ModelInfer", body, concurrency, seconds, key=requests.key
        )["throughput"]
        for name in (DIRECT, THROUGH)
    }


def added_ms(taken: dict[str, Any], kind: str, way: str) -> float:
    """To the median of a kind of requests."""
    return float(taken[kind][way]["p50_ms"] - taken[kind][DIRECT]["p50_ms"])


def ratio(taken: dict[str, Any]) -> float:
    """Throughput through the gateway over that of Triton alone."""
    return float(taken["throughput"][THROUGH] / taken["throughput"][DIRECT])


def _told(taken: dict[str, Any]) -> str:
    added = ", ".join(f"{added_ms(taken, kind, THROUGH):.2f} ms to {what}" for kind, what in KINDS.items())
    return f"the gateway adds {added}; ratio of throughput {ratio(taken):.3f}"


def print_summary(raw: RawResult) -> None:
    """For people, medians of rounds."""
    rounds = raw["rounds"]
    print(f"\n{raw['model']['name']}, {raw['request_bytes']} bytes, {len(rounds)} rounds, medians")
    print(f"{'':<22}{'direct':>9}" + "".join(f"{'+ ' + way:>12}{'CPU':>8}" for way in (BARE, KEPT, THROUGH)))
    for kind, what in KINDS.items():
        direct = statistics.median(one[kind][DIRECT]["p50_ms"] for one in rounds)
        line = f"{what:<22}{direct:9.3f}"
        for way in (BARE, KEPT, THROUGH):
            added = statistics.median(added_ms(one, kind, way) for one in rounds)
            cpu = statistics.median(one[kind][way]["cpu_us"] for one in rounds) / 1000
            line += f"{added:12.3f}{cpu:8.3f}"
        print(line)
    ratios = [ratio(one) for one in rounds]
    direct, through = (
        statistics.median(one["throughput"][way] for one in rounds) for way in (DIRECT, THROUGH)
    )
    print("milliseconds; kept: also kept to be sent again; CPU: HAProxy's for one request")
    print(
        f"JPEGs over gRPC at {raw['concurrency']}: {direct:.1f}/s directly, {through:.1f}/s through the "
        f"gateway, ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("model", nargs="?", default="recognize_objects", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of all ways (default: %(default)s)")
    parser.add_argument(
        "--requests", type=int, default=100, help="JPEGs of each way in a round (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=5, help="of each measurement of throughput (default: %(default)s)"
    )
    parser.add_argument("--concurrency", type=int, default=8, help="for throughput (default: %(default)s)")
    add_result_options(parser)
