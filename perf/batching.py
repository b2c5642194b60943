"""What dynamic batching brings: the same model, served with and without it, side by side.

    python -m perf batching
    python -m perf batching efficientnet_lite0 --concurrency 16

Serves two copies of the model: as its config.pbtxt says, and with `dynamic_batching` taken out. Rounds
alternate (A B A B), one side idle while the other is measured; the ratio is the median of the rounds' ratios.
"""

import argparse
import contextlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import text_format

from perf.analyzer import find_analyzer
from perf.errors import PerfError
from perf.inputs import REPOSITORY, read_config, write_inputs
from perf.load import Load, Target, measure
from perf.raw import model_facts, output_path, record, save
from perf.run import say
from perf.serving import TRANSPORTS, exported, serving

__all__ = ["medians"]

WITHOUT = "_one_by_one"


def run(arguments: argparse.Namespace) -> int:
    output = output_path(arguments.output, "batching")
    analyzer = find_analyzer()
    protocol, shared_memory, more = TRANSPORTS[arguments.transport]
    rounds: list[dict] = []
    with (
        source(arguments) as (model, origin),
        tempfile.TemporaryDirectory() as scratch,
    ):
        repository = two_copies(model, origin, Path(scratch) / "models")
        inputs = write_inputs(model, Path(scratch) / "inputs.json", repository)
        facts = [model_facts(repository, name) for name in (model, model + WITHOUT)]
        with serving(model, repository, also=(model + WITHOUT,)) as served:
            for number in range(1, arguments.rounds + 1):
                levels = {}
                for side, name in (("with", model), ("without", model + WITHOUT)):
                    target = Target(
                        name,
                        served.grpc_url,
                        served.http_url,
                        protocol,
                        shared_memory,
                        input_data=inputs.path,
                        arguments=(*inputs.arguments, *more),
                    )
                    load = Load(arguments.concurrency)
                    levels[side] = measure(analyzer, target, load, seconds=arguments.seconds)
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
    save(output, raw)
    if arguments.json:
        print(json.dumps(raw, indent=1))
    else:
        on, off, ratio = medians(raw)
        print(
            f"{model}, {arguments.transport}, concurrency {arguments.concurrency}: dynamic batching on "
            f"{on:.0f}/s, off {off:.0f}/s, ratio {ratio:.2f} ({len(rounds)} rounds)"
        )
    say(f"raw results: {output}")
    return 0


def medians(raw: dict) -> tuple[float, float, float]:
    """Inferences a second with and without batching, and the median of the rounds' ratios."""
    on, off = ([one[side]["throughput"] for one in raw["rounds"]] for side in ("with", "without"))
    ratios = [a / b for a, b in zip(on, off, strict=True)]
    return statistics.median(on), statistics.median(off), statistics.median(ratios)


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
    """A repository with the model as it is, and beside it one without `dynamic_batching`."""
    config = read_config(model, origin)
    if not config.HasField("dynamic_batching"):
        raise PerfError(f"{origin / model / 'config.pbtxt'} has no dynamic_batching to do without")
    for name in (model, model + WITHOUT):
        shutil.copytree(origin / model, repository / name)
    config.ClearField("dynamic_batching")
    config.name = model + WITHOUT
    (repository / config.name / "config.pbtxt").write_text(text_format.MessageToString(config))
    return repository


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", default="perf/tiny_gru.py:spec", help="default: %(default)s")
    parser.add_argument("--concurrency", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--transport", choices=TRANSPORTS, default="grpc", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of A and B each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a window (default: %(default)s)")
    parser.add_argument("--model-repository", type=Path, default=REPOSITORY, metavar="FOLDER")
    parser.add_argument("--output", type=Path, metavar="FILE", help="raw results (default: one in perf/out)")
    parser.add_argument("--json", action="store_true", help="print the raw results, not a table")
