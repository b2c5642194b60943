"""Load on a served model: concurrency or request rate, over gRPC, HTTP and shared memory, real inputs.

    python -m perf run efficientnet_lite0
    python -m perf run --profile jpeg-rate
    python -m perf run recognize_objects --request-rate 20,40,60 --distribution poisson
    python -m perf run my_model --url localhost:8000 --grpc-url localhost:8001
    python -m perf run my_net.py:spec              exported with random weights for the time

Starts a server with that model alone and what it needs, or takes one that runs (--url). perf_analyzer makes
the load; photographs and lines of text are sent to models that take them, random values to others. A level is
three windows of --seconds; where they differ from their mean by more than 10 % it is called unstable. Raw
results go to perf/out; `python -m perf report` draws them.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from perf.benchmarks.profiles import DISTRIBUTIONS, LoadProfile, get_profile, read_profiles
from perf.harness.commands import (
    add_repository_option,
    add_result_options,
    console,
    hand_over,
    listed,
    load_average,
    say,
)
from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import Analyzer, AnalyzerError, find_analyzer
from perf.harness.inputs import Inputs, write_inputs
from perf.harness.load import WINDOWS, Load, measure
from perf.harness.raw import RawResult, output_path, record
from perf.harness.serving import TRANSPORTS, ServedModel, exported, running, serving
from perf.summaries.run import batch_sizes, described
from server.operations.doctor.gpu import survey_gpus

__all__ = ["sweep"]

PEAK = Load(32)  # what shares are of
START_S = 2.0  # of perf_analyzer, about: for the time left
KEPT_UP = 0.95  # of the rate asked for; below, the server was too slow
OVERLOADED = "Exceeds maximum queue size"
LOCAL = ("localhost", "127.", "[::1]", "0.0.0.0")


def run(arguments: argparse.Namespace) -> int:
    """Measure every level, or list the profiles; 1 if a level could not be measured, else 0."""
    if arguments.list:
        return list_profiles()
    profile = asked_profile(arguments)
    output = output_path(
        arguments.output, f"run-{arguments.profile or Path(profile.model.split(':')[0]).stem}"
    )
    analyzer = find_analyzer()
    with served_model(profile, arguments) as served, tempfile.TemporaryDirectory() as scratch:
        inputs = write_inputs(served.config, Path(scratch) / "inputs.json")
        say(f"{served.model} on Triton {served.version}, {inputs.content}; {analyzer.version()}")
        if not inputs.real:
            say("nothing real is known to send to this model: random values, of the right shapes")
        raw = sweep(analyzer, served, inputs, profile)
    hand_over(raw, output, as_json=arguments.json, show=print_table)
    for warning in warnings(raw):
        say(f"warning: {warning}")
    return 1 if raw["failed"] else 0


def asked_profile(arguments: argparse.Namespace) -> LoadProfile:
    """The profile of the command line: of the file or of a model, and what the options change of it."""
    if bool(arguments.model) == bool(arguments.profile):
        names = ", ".join(read_profiles())
        raise PerfError(f"name a model, or a profile with --profile: {names}")
    profile = get_profile(arguments.profile) if arguments.profile else LoadProfile("", arguments.model)
    return profile.changed(
        transports=arguments.transport,
        concurrency=arguments.concurrency,
        request_rate=arguments.request_rate,
        share=arguments.share,
        distribution=arguments.distribution,
        seconds=arguments.seconds,
        rounds=arguments.rounds,
    )


@contextlib.contextmanager
def served_model(profile: LoadProfile, arguments: argparse.Namespace) -> Iterator[ServedModel]:
    """The model of a profile on the server asked for."""
    memories = {TRANSPORTS[one][1] for one in profile.transports}
    if "cuda" in memories and not (survey := survey_gpus()).gpus:
        raise PerfError(f"CUDA shared memory needs a GPU on this machine: {survey.problem}")
    if arguments.url:
        grpc_url = arguments.grpc_url or f"{arguments.url.rpartition(':')[0]}:8001"
        if not arguments.url.startswith(LOCAL) and memories != {"none"}:
            raise PerfError(f"shared memory needs the server on this machine, not on {arguments.url}")
        yield running(profile.model, arguments.url, grpc_url)
    elif ".py:" in profile.model:
        say(f"exporting {profile.model} with random weights")
        with exported(profile.model) as (name, repository), serving(name, repository) as served:
            yield served
    else:
        with serving(profile.model, arguments.model_repository) as served:
            yield served


def sweep(analyzer: Analyzer, served: ServedModel, inputs: Inputs, profile: LoadProfile) -> RawResult:
    """The raw result ("run") of every level over every transport, the transports of a level side by side.

    Rounds go there and back, so that a drift of the machine is not taken for a difference. A level that could
    not be measured, perhaps because the server refused requests, is told in `failed`. Raises `AnalyzerError`
    if none could.
    """
    busy = load_average()
    levels: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    peak = None

    def level(transport: str, load: Load) -> dict[str, Any]:
        target = served.target(inputs, transport)
        return {"transport": transport, **measure(analyzer, target, load, seconds=profile.seconds)}

    if profile.share:
        peak = level(profile.transports[0], PEAK)["throughput"]
        say(f"at {PEAK}: {peak:.1f}/s; shares are of that")
    plan = [(load, transport) for load in profile.loads(peak) for transport in profile.transports]
    plans = [plan if number % 2 == 0 else plan[::-1] for number in range(profile.rounds)]
    todo = [(number, *step) for number, steps in enumerate(plans, 1) for step in steps]
    for position, (number, load, transport) in enumerate(todo):
        left = (len(todo) - position) * (WINDOWS * profile.seconds + START_S)
        say(f"{position + 1}/{len(todo)}  {transport}, {load}; about {left:.0f} s left")
        try:
            levels.append({"round": number, **level(transport, load)})
        except AnalyzerError as error:
            failed.append({"level": f"{transport}, {load}", "error": str(error)})
            if len(failed) == len(todo):
                raise
            say("  could not be measured")
    return record(
        "run",
        profile=profile.name or None,
        title=profile.title or served.model,
        model=served.facts,
        composing=served.composing,
        triton=served.version,
        analyzer=analyzer.version(),
        inputs=inputs.facts(),
        window_seconds=profile.seconds,
        load_average_before=busy,
        peak=peak,
        levels=levels,
        failed=failed,
    )


def warnings(raw: RawResult) -> list[str]:
    """What makes the figures of a run doubtful, and what to do about it."""
    found = []
    unstable = [level for level in raw["levels"] if not level["stable"]]
    if unstable:
        spread = "; ".join(
            f"{described(level)} ({', '.join(f'{rate:.0f}' for rate, _ in level['windows'])}/s)"
            for level in unstable[:3]
        )
        found.append(
            f"{len(unstable)} of {len(raw['levels'])} levels were unstable: {spread}"
            f"{' and more' if len(unstable) > 3 else ''}. Measure again with --seconds "
            f"{2 * raw['window_seconds']:g} while nothing else runs; fewer levels keep it short"
        )
    if late := [level for level in raw["levels"] if too_slow(level, raw["window_seconds"])]:
        slowest = min(late, key=lambda level: level["request_rate"])
        found.append(
            f"asked for {slowest['request_rate']:g}/s, measured {slowest['throughput']:.1f}/s: from there on "
            "requests queue up, and latency tells how long the run was. Ask for less"
        )
    for one in raw["failed"]:
        if OVERLOADED in one["error"]:
            found.append(f"{one['level']}: the server refused requests, its queue was full (max_queue_size)")
        else:
            found.append(f"{one['level']}: {one['error']}")
    return found


def too_slow(level: dict[str, Any], seconds: float) -> bool:
    """Whether a rate was not kept up with: by more than 5 %, and more than Poisson's own scatter explains."""
    rate = level["request_rate"] or 0
    scatter = 2 * (rate / (WINDOWS * seconds)) ** 0.5
    return bool(level["throughput"] < rate * KEPT_UP - scatter)


def print_table(raw: RawResult) -> None:
    """A row for each level: inferences/s, milliseconds, inferences per execution of each model."""
    ensemble = bool(raw["composing"]) and "ensemble_scheduling" in raw["model"]["config_pbtxt"]
    names = [facts["name"] for facts in ([] if ensemble else [raw["model"]]) + raw["composing"]]
    table = Table(title=f"{raw['title']} ({raw['inputs']['content']})", title_justify="left")
    table.add_column("over", no_wrap=True)
    table.add_column("load", no_wrap=True)
    for heading in ("infer/s", "p50 ms", "p95 ms", "p99 ms", *(f"batch of {name}" for name in names)):
        table.add_column(heading, justify="right")
    table.add_column("")
    for level in raw["levels"]:
        sizes = batch_sizes(level)
        table.add_row(
            *described(level).split(", "),
            f"{level['throughput']:.1f}",
            *(f"{level[f'p{p}_ms']:.1f}" for p in (50, 95, 99)),
            *(f"{sizes[name]:.1f}" if name in sizes else "" for name in names),
            "" if level["stable"] else "unstable",
        )
    console().print(table)


def list_profiles() -> int:
    """Print the profiles of profiles.toml; returns 0."""
    table = Table("profile", "model", "transports", "what it shows")
    for profile in read_profiles().values():
        table.add_row(profile.name, profile.model, " ".join(profile.transports), profile.title)
    console().print(table)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("model", nargs="?", help="its name, or FILE.py:NAME of a spec")
    parser.add_argument(
        "--profile", metavar="NAME", help="of perf/benchmarks/profiles.toml; other options change it"
    )
    parser.add_argument("--list", action="store_true", help="list the profiles, and do nothing else")
    levels = parser.add_mutually_exclusive_group()
    levels.add_argument("--concurrency", type=listed(int), metavar="N,...", help="default: 1,2,4,8,16,32")
    levels.add_argument("--request-rate", type=listed(float), metavar="N,...", help="requests a second")
    levels.add_argument(
        "--share", type=listed(float), metavar="X,...", help="rates, of the rate at concurrency 32"
    )
    parser.add_argument("--distribution", type=listed(str), metavar="NAME,...", help=", ".join(DISTRIBUTIONS))
    parser.add_argument("--transport", type=listed(str), metavar="NAME,...", help=", ".join(TRANSPORTS))
    parser.add_argument("--seconds", type=float, help="of each of three windows (default: 3)")
    parser.add_argument("--rounds", type=int, help="over all levels, there and back (default: 1)")
    parser.add_argument("--url", metavar="HOST:PORT", help="HTTP endpoint of a server that runs")
    parser.add_argument("--grpc-url", metavar="HOST:PORT", help="default: port 8001 of --url's host")
    add_repository_option(parser)
    add_result_options(parser)
