"""What TensorFlow Serving's interfaces cost: a model asked directly, and through the gateway, side by side.

    python -m perf gateway mobilenet_v2

Compares (A) Triton's own gRPC, (B) a process that only hands its bytes on, the least that one with Python's
gRPC on both sides costs, and (C) TensorFlow Serving's Predict through the gateway, with one photograph: in
each round one request at a time, in short turns, and then several at a time, way after way. Prints medians,
what B and C add to one request, the ratios of throughput to A in each round, the CPU time that the gateway
takes for a request, and what of that is parsing; writes the raw results with the machine and the versions.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as triton_messages

from export.sources.samples import photograph_pixels
from perf.harness.commands import add_result_options, hand_over, load_average, say
from perf.harness.errors import PerfError
from perf.harness.generators.grpc_bytes import Driven, drive
from perf.harness.generators.turns import Turns, in_turns
from perf.harness.grpc_forwarder import forwarding
from perf.harness.inputs import REPOSITORY
from perf.harness.machine import cpu_seconds
from perf.harness.raw import RawResult, model_facts, output_path, record
from perf.harness.serving import completed_config
from server import TritonServer
from server.tfserving.wire.connections import Answer, KeptConnections
from server.tfserving.wire.inference import infer_request, inferred
from server.tfserving.wire.messages import message
from server.tfserving.wire.tensors import DTYPES, fill, of_proto
from server.watching.gateway import TFServingGateway

TRITON_METHOD = "/inference.GRPCInferenceService/ModelInfer"
PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"
DIRECT, BARE, THROUGH = "direct", "bare", "gateway"
STAGE_RUNS = 200
UINT8 = next(dtype for dtype in DTYPES.values() if dtype.name == "DT_UINT8")
PredictRequest, PredictResponse = (
    message(f"tensorflow.serving.{name}") for name in ("PredictRequest", "PredictResponse")
)


def run(arguments: argparse.Namespace) -> int:
    """Measure both ways in turn; returns 0. Raises `PerfError` for a model that takes no photographs."""
    output = output_path(arguments.output, "gateway")
    config = completed_config(arguments.model)
    pixels = photograph_pixels()[0][0][np.newaxis]
    if [tuple(tensor.dims) for tensor in config.input] != [pixels.shape[1:]]:
        raise PerfError(f"{arguments.model} takes no photograph as pixels; choose one such as mobilenet_v2")
    load_average()
    name = config.input[0].name
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        bodies = {DIRECT: Path(folder, "triton"), THROUGH: Path(folder, "tfserving")}
        bodies[DIRECT].write_bytes(triton_request(arguments.model, name, pixels).SerializeToString())
        bodies[THROUGH].write_bytes(predict_request(arguments.model, name, pixels).SerializeToString())
        server = TritonServer(
            REPOSITORY,
            log=Path(folder, "triton.log"),
            arguments=["--model-control-mode=explicit", f"--load-model={arguments.model}"],
        )
        gateway = TFServingGateway(["--grpc-port=0", "--rest-port=0"])
        with (
            server,
            forwarding(server.grpc_url, TRITON_METHOD) as (bare, bare_pid),
            gateway.serving(server.http_url, server.address),
        ):
            ways = {
                DIRECT: (server.grpc_url, TRITON_METHOD),
                BARE: (bare, TRITON_METHOD),
                THROUGH: (gateway.grpc_url, PREDICT_METHOD),
            }
            between = {BARE: bare_pid, THROUGH: gateway.pid or 0}
            bodies[BARE] = bodies[DIRECT]

            def measured(way: str) -> dict[str, Any]:
                before = cpu_seconds(between[way]) if way in between else 0.0
                driven: Driven = drive(*ways[way], bodies[way], arguments.concurrency, arguments.seconds)
                used = cpu_seconds(between[way]) - before if way in between else 0.0
                return {**driven, "gateway_cpu_s": used}

            for number in range(1, arguments.rounds + 1):
                taken: dict[str, Any] = {"load_average": os.getloadavg()[0]}
                for way, turns in one_at_a_time(ways, between, bodies, arguments.requests).items():
                    taken[f"{way}_one"] = turns
                for way in ways:
                    taken[f"{way}_many"] = measured(way)
                rounds.append(taken)
                say(f"round {number} of {arguments.rounds}: {_told(taken)}")
            stages = stage_times(server.http_url, bodies)
    raw = record(
        "gateway",
        model=model_facts(REPOSITORY, arguments.model),
        requests=arguments.requests,
        concurrency=arguments.concurrency,
        seconds=arguments.seconds,
        request_bytes=pixels.nbytes,
        rounds=rounds,
        stages_us=stages,
    )
    hand_over(raw, output, as_json=arguments.json, show=print_summary)
    return 0


def triton_request(model: str, name: str, pixels: Any) -> Any:
    """Of the pixels UINT8 [1,h,w,3], as Triton takes them."""
    request = triton_messages.ModelInferRequest(model_name=model)
    request.inputs.add(name=name, datatype="UINT8", shape=pixels.shape)
    request.raw_input_contents.append(pixels.tobytes())
    return request


def predict_request(model: str, name: str, pixels: Any) -> Any:
    """The same as TensorFlow's clients send it: bytes in `tensor_content`."""
    request = PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs[name]
    tensor.dtype = UINT8.number
    for size in pixels.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = pixels.tobytes()
    return request


def one_at_a_time(
    ways: dict[str, tuple[str, str]], between: dict[str, int], bodies: dict[str, Path], requests: int
) -> dict[str, Turns]:
    """So many requests by each way, to the method at its address."""

    def asking(way: str) -> Callable[[], object]:
        url, method = ways[way]
        channel = stack.enter_context(grpc.insecure_channel(url))
        return functools.partial(channel.unary_unary(method), bodies[way].read_bytes())

    with contextlib.ExitStack() as stack:
        cpu_s = {way: functools.partial(cpu_seconds, pid) for way, pid in between.items()}
        return in_turns({way: asking(way) for way in ways}, cpu_s, requests)


def stage_times(url: str, bodies: dict[str, Path]) -> dict[str, float]:
    """Microseconds of what the gateway does with the bytes of one request and answer, alone; medians.

    url: of Triton's HTTP.
    """
    asked = bodies[THROUGH].read_bytes()
    parsed = PredictRequest.FromString(asked)
    path = f"/v2/models/{parsed.model_spec.name}"

    def to_triton() -> list[bytes]:
        tensors = {name: of_proto(name, proto, 2**30) for name, proto in parsed.inputs.items()}
        return infer_request(path, url, tensors)

    answer = asyncio.run(_answer(url, to_triton()))
    told = inferred(answer.headers, answer.body)

    def answered() -> Any:
        response = PredictResponse()
        for name, tensor in told.outputs.items():
            fill(response.outputs[name], tensor)
        return response

    response = answered()
    return {
        "parse the request": _median_us(lambda: PredictRequest.FromString(asked)),
        "make Triton's request": _median_us(to_triton),
        "read Triton's answer": _median_us(lambda: inferred(answer.headers, answer.body)),
        "make the answer": _median_us(answered),
        "serialise the answer": _median_us(response.SerializeToString),
    }


async def _answer(url: str, parts: list[bytes]) -> Answer:
    host, _, port = url.rpartition(":")
    connections = KeptConnections(host, int(port), most=1)
    try:
        return await connections.ask(lambda: parts)
    finally:
        await connections.close()


def _median_us(once: Callable[[], object]) -> float:
    took = []
    for _ in range(STAGE_RUNS):
        start = time.perf_counter()
        once()
        took.append(1e6 * (time.perf_counter() - start))
    return statistics.median(took)


def added_ms(taken: dict[str, Any], way: str = THROUGH) -> float:
    """To the median of one request at a time."""
    return float(taken[f"{way}_one"]["p50_ms"] - taken["direct_one"]["p50_ms"])


def ratio(taken: dict[str, Any], way: str = THROUGH) -> float:
    """Throughput that way over that of Triton alone."""
    return float(taken[f"{way}_many"]["throughput"] / taken["direct_many"]["throughput"])


def _told(taken: dict[str, Any]) -> str:
    return "; ".join(
        f"{way} adds {added_ms(taken, way):.2f} ms to one request, throughput is {ratio(taken, way):.3f}"
        for way in (BARE, THROUGH)
    )


def print_summary(raw: RawResult) -> None:
    """For people, medians of rounds."""
    rounds = raw["rounds"]

    def median(value: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median([value(one) for one in rounds])

    print(f"\n{raw['model']['name']}, {len(rounds)} rounds, medians")
    for way in (DIRECT, BARE, THROUGH):
        p50 = median(lambda one, way=way: one[f"{way}_one"]["p50_ms"])  # type: ignore[misc]
        rate = median(lambda one, way=way: one[f"{way}_many"]["throughput"])  # type: ignore[misc]
        print(f"  {way:<10}{p50:8.2f} ms at one request {rate:8.1f}/s at {raw['concurrency']}")
    for way in (BARE, THROUGH):
        added, ratios = [added_ms(one, way) for one in rounds], [ratio(one, way) for one in rounds]
        print(
            f"{way} adds {statistics.median(added):.2f} ms ({min(added):.2f} to {max(added):.2f}), "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )
    cpu = median(lambda one: 1e6 * one["gateway_many"]["gateway_cpu_s"] / one["gateway_many"]["requests"])
    stages = raw["stages_us"]
    print(f"where the gateway's CPU time goes, microseconds of {cpu:.0f} a request:")
    for name, took in stages.items():
        print(f"  {name:<26}{took:8.0f}")
    print(f"  {'gRPC, HTTP, event loop':<26}{cpu - sum(stages.values()):8.0f}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("model", nargs="?", default="mobilenet_v2", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of all ways (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5, help="of each measurement of throughput (default: %(default)s)"
    )
    parser.add_argument(
        "--requests", type=int, default=200, help="one at a time, in a round (default: %(default)s)"
    )
    parser.add_argument(
        "--concurrency", type=int, default=8, help="of the second part (default: %(default)s)"
    )
    add_result_options(parser)
