"""What dynamic batching brings: the same model, served with and without it, side by side.

    python -m perf batching
    python -m perf batching efficientnet_lite0 --concurrency 16

Serves two copies of the model: as its config.pbtxt says, and with `dynamic_batching` taken out. Rounds
alternate (A B A B), one side idle while the other is measured; the ratio is the median of the rounds' ratios.

`--transport http-wrk` loads with wrk in place of perf_analyzer: for tiny requests perf_analyzer itself takes
much of two cores, and then both sides measure perf_analyzer, too.
"""

import argparse
import base64
import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import triton_to_np_dtype

from perf.harness.commands import add_repository_option, add_result_options, hand_over, say
from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import Analyzer, find_analyzer
from perf.harness.generators.wrk import Post, Wrk, find_wrk
from perf.harness.inputs import Inputs, write_inputs
from perf.harness.load import Level, Load, difference, measure, statistics
from perf.harness.raw import RawResult, model_facts, output_path, record
from perf.harness.serving import TRANSPORTS, ServedModel, completed_config, exported, serving
from perf.summaries.batching import medians
from server import config_path

WITHOUT = "_one_by_one"
WRK = "http-wrk"


def run(arguments: argparse.Namespace) -> int:
    """Measure both copies in turn; returns 0. Raises `PerfError` as `two_copies` does."""
    output = output_path(arguments.output, "batching")
    analyzer = find_wrk() if arguments.transport == WRK else find_analyzer()
    rounds: list[dict[str, Level | dict[str, Any]]] = []
    with (
        source(arguments) as (model, origin),
        tempfile.TemporaryDirectory() as scratch,
    ):
        repository = two_copies(model, origin, Path(scratch) / "models")
        facts = [model_facts(repository, name) for name in (model, model + WITHOUT)]
        with serving(model, repository, also=(model + WITHOUT,)) as served:
            inputs = write_inputs(served.config, Path(scratch) / "inputs.json")
            for number in range(1, arguments.rounds + 1):
                levels = {}
                for side, name in (("with", model), ("without", model + WITHOUT)):
                    levels[side] = level(arguments, analyzer, served, name, inputs)
                    say(f"round {number}: {side} batching {levels[side]['throughput']:.0f}/s")
                rounds.append(levels)
    raw = record(
        "batching",
        model=facts[0],
        without=facts[1],
        triton=served.version,
        analyzer=analyzer.version(),
        inputs=inputs.facts(),
        transport=arguments.transport,
        concurrency=arguments.concurrency,
        window_seconds=arguments.seconds,
        rounds=rounds,
    )
    hand_over(raw, output, as_json=arguments.json, show=print_ratio)
    return 0


def print_ratio(raw: RawResult) -> None:
    """One line for people: inferences/s with and without, and the median of the rounds' ratios."""
    on, off, ratio = medians(raw)
    print(
        f"{raw['model']['name']}, {raw['transport']}, concurrency {raw['concurrency']}: dynamic batching on "
        f"{on:.0f}/s, off {off:.0f}/s, ratio {ratio:.2f} ({len(raw['rounds'])} rounds)"
    )


def level(
    arguments: argparse.Namespace, generator: Analyzer | Wrk, served: ServedModel, model: str, inputs: Inputs
) -> Level | dict[str, Any]:
    """One side of a round: what `perf.harness.load.measure` tells, or the part of it that wrk knows."""
    if isinstance(generator, Wrk):
        before = statistics(served.http_url)
        requests = http_requests(model, inputs.path, served.config)
        told = generator.run(served.http_url, requests, arguments.concurrency, max(1, arguments.seconds))
        models = difference(before, statistics(served.http_url))
        return {"throughput": told.pop("rate"), **told, "models": models}
    target = served.target(inputs, arguments.transport, model=model)
    return measure(generator, target, Load(arguments.concurrency), seconds=arguments.seconds)


def http_requests(model: str, inputs: Path, config: ModelConfig) -> list[Post]:
    """One POST an item of perf_analyzer's file, each a batch of one, tensors as raw bytes (KServe v2)."""
    types = {tensor.name: DataType.Name(tensor.data_type).removeprefix("TYPE_") for tensor in config.input}
    requests = []
    for item in json.loads(inputs.read_text())["data"]:
        tensors = []
        for name, value in item.items():
            content = base64.b64decode(value["content"]["b64"])
            array = np.frombuffer(content, triton_to_np_dtype(types[name]))
            tensor = InferInput(name, [1, *value["shape"]], types[name])
            tensor.set_data_from_numpy(array.reshape(1, *value["shape"]))
            tensors.append(tensor)
        body, length = InferenceServerClient.generate_request_body(tensors)
        header = ("Inference-Header-Content-Length", str(length))
        requests.append(Post(f"/v2/models/{model}/infer", bytes(body), (header,)))
    return requests


@contextlib.contextmanager
def source(arguments: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """The model asked for and its repository: the one given, or a scratch one for a spec."""
    if ".py:" in arguments.model:
        say(f"exporting {arguments.model} with random weights")
        with exported(arguments.model) as found:
            yield found
    else:
        yield arguments.model, arguments.model_repository


def two_copies(model: str, origin: Path, repository: Path) -> Path:
    """A repository with the model as it is, and beside it one without `dynamic_batching`.

    Raises `PerfError` if it has none.
    """
    config = completed_config(model, origin)
    if not config.HasField("dynamic_batching"):
        raise PerfError(f"{model} in {origin} has no dynamic_batching to do without")
    for name in (model, model + WITHOUT):
        shutil.copytree(origin / model, repository / name)
    config.ClearField("dynamic_batching")
    config.name = model + WITHOUT
    config_path(repository, config.name).write_text(text_format.MessageToString(config))
    return repository


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument(
        "model", nargs="?", default="perf/benchmarks/tiny_gru.py:spec", help="default: %(default)s"
    )
    parser.add_argument("--concurrency", type=int, default=32, help="default: %(default)s")
    parser.add_argument(
        "--transport", choices=(*TRANSPORTS, WRK), default="grpc", help="default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of A and B each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a window (default: %(default)s)")
    add_repository_option(parser)
    add_result_options(parser)
