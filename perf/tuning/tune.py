"""Find the policy that serves most within a latency limit, by measurement; write it if it is better.

    python -m perf tune efficientnet_lite0 --slo-p99-ms 60
    python -m perf tune text_recognizer --objective latency --rate 50
    python -m perf tune my_model --url triton:8000 --cores 16 --slo-p99-ms 20

Tries instances x threads and their placement, preferred batch sizes, and queue delay, in short measurements;
then measures the best of them in turn with the current policy, and decides by the ratios of the rounds
(docs/why/tuning.md). Only the policy in config.pbtxt changes, comments stay, and the linter must agree. With
--url policies are tried on a running server through its model control API, and the best is printed: nothing
is written, and the model gets its config back.

Where other programs took the cores meanwhile, no winner is named, and the exit code is 3.
"""

import argparse
import contextlib
import json
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

from rich.table import Table

from export.repository.configs.contract import read_config_text
from export.repository.publish import CONFIG_FILE
from perf.harness.commands import (
    add_repository_option,
    add_result_options,
    clock_time,
    console,
    positive,
    say,
)
from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import find_analyzer
from perf.harness.raw import output_path, record, save
from perf.harness.serving import ServedModel, running, serving
from perf.tuning.bench import bench
from perf.tuning.decision import MIN_ROUNDS, Objective, PolicyVerdict
from perf.tuning.model_analyzer import analyze
from perf.tuning.policy import Policy, policy_of
from perf.tuning.text import completed_text, difference, edited_text, policy_text, write_config
from perf.tuning.tuner import Clock, Options, Outcome, content, rounds_that_count, tune
from server import config_path

OBJECTIVES = ("throughput", "latency")
UNDECIDED = 3
EXIT_CODES = (
    "exit codes: 0 done, whether or not a better policy was found; 1 failed; 2 wrong usage; "
    "3 undecided, as other programs disturbed the rounds; 130 interrupted"
)
MIN_GAIN_PERCENT = 5.0
MODEL_ANALYZER_ROWS = 5
TOLD_COLUMNS = (
    "Model Config Path",
    "Concurrency",
    "Instance Group",
    "Throughput (infer/sec)",
    "p99 Latency (ms)",
)


def run(arguments: argparse.Namespace) -> int:
    """Tune, and write the winner unless --dry-run or --url; returns 0, 2 for wrong usage, or `UNDECIDED`.

    What was measured is kept also if it ends early. Raises `PerfError` for an ensemble, or where another file
    than config.pbtxt is served.
    """
    if problem := wrong_usage(arguments):
        print(f"error: {problem}", file=sys.stderr)
        return 2
    options = Options(
        Objective(arguments.objective, arguments.slo_p99_ms, arguments.rate),
        arguments.budget_minutes * 60,
        arguments.rounds,
        arguments.min_gain_percent / 100,
        arguments.max_concurrency,
    )
    output = output_path(arguments.output, f"tune-{arguments.model}")
    path = None if arguments.url else config_path(arguments.model_repository, arguments.model)
    if path and path.name != CONFIG_FILE:
        raise PerfError(
            f"{arguments.model} is served by {path} here, and only {CONFIG_FILE} is tuned; change it by "
            "hand and compare with `python -m perf run`"
        )
    clock, outcome = Clock(options.budget_s), Outcome(Policy())
    with served_model(arguments) as served:
        if steps := [step.model_name for step in served.config.ensemble_scheduling.step]:
            raise PerfError(f"{served.model} is an ensemble, without a policy; tune {', '.join(steps)}")
        before = read_config_text(path) if path and path.is_file() else ""
        raw = record(
            "tune",
            model=served.facts,
            objective=vars(options.objective),
            budget_minutes=arguments.budget_minutes,
            least_gain=options.margin,
            url=arguments.url,
        )
        try:
            measure(served, options, arguments, outcome, clock)
        finally:  # what was measured is kept, also after Ctrl-C
            raw.content.update(content(outcome))
            save(output, raw)
    say(f"raw results: {output}")
    after, changes = None, ""
    if outcome.winner and path:
        text = completed_text(before, served.config, path)
        after = edited_text(text, outcome.winner, path, note(outcome.verdicts[outcome.winner], options))
        changes = difference(before, after, path)
        if not arguments.dry_run:
            write_config(arguments.model_repository, arguments.model, before, after)
    raw.content.update(config_after=after, written=bool(after) and not arguments.dry_run)
    save(output, raw)
    if arguments.with_model_analyzer:
        raw.content["model_analyzer"] = beside(arguments, options, output)
        save(output, raw)
    if arguments.json:
        print(json.dumps(raw.as_json(), indent=1))
    else:
        print_outcome(outcome, served)
        if changes:
            print(f"\n{changes}")
        if found := raw.content.get("model_analyzer"):
            print_model_analyzer(found)
        if outcome.winner:
            print(what_next(arguments, outcome.winner, served, path))
    if outcome.undecided:
        say(f"no winner is named: {outcome.undecided}")
        return UNDECIDED
    return 0


def wrong_usage(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the options together."""
    if arguments.objective == "throughput" and arguments.slo_p99_ms is None:
        return "the throughput is sought within a latency limit: give --slo-p99-ms"
    if (arguments.objective == "latency") != (arguments.rate is not None):
        return "--rate (requests a second) and --objective latency go together"
    if arguments.rounds and arguments.rounds < MIN_ROUNDS:
        return f"{arguments.rounds} rounds cannot tell a gain from noise; --rounds takes {MIN_ROUNDS} or more"
    if arguments.url and arguments.with_model_analyzer:
        return "Model Analyzer needs a server of ours, which it can show its variants: leave out --url"
    if arguments.url and not arguments.cores:
        return "a server does not tell how many cores it may use: give --cores with --url"
    return None


def served_model(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[ServedModel]:
    """On a server of our own, or on that of --url. Raises `PerfError` if it is not ready."""
    if not arguments.url:
        return serving(arguments.model, arguments.model_repository)
    grpc_url = arguments.grpc_url or f"{arguments.url.rpartition(':')[0]}:8001"
    return contextlib.nullcontext(running(arguments.model, arguments.url, grpc_url))


def measure(
    served: ServedModel, options: Options, arguments: argparse.Namespace, outcome: Outcome, clock: Clock
) -> None:
    """Fill in `outcome` on a bench for the model. Raises `PerfError` as `perf.tuning.tuner.tune` does."""
    outcome.current = policy_of(served.config)
    with bench(served, find_analyzer(), arguments.seconds, arguments.cores) as at:
        say(f"{served.model} on Triton {served.version}, {at.cores} cores, {at.inputs.content}")
        if not at.inputs.real:
            say("nothing real is known to send to this model: random values, of the right shapes")
        tune(at, options, outcome, clock, lambda text: say(f"[{clock_time(clock.left())} left] {text}"))


def beside(arguments: argparse.Namespace, options: Options, output: Path) -> dict[str, Any]:
    """What Model Analyzer finds for the same model, with the config that it had."""
    folder = output.with_suffix(".model-analyzer")
    say(f"Model Analyzer: up to {arguments.model_analyzer_minutes:g} minutes; its log and reports: {folder}")
    return analyze(
        arguments.model_repository,
        arguments.model,
        find_analyzer(),
        options.objective,
        max_concurrency=arguments.max_concurrency,
        limit_s=60 * arguments.model_analyzer_minutes,
        folder=folder,
    )


def print_model_analyzer(found: dict[str, Any]) -> None:
    """For people: how long it took, and its fastest measurements."""
    rows = found["measurements"]
    took = f"{clock_time(found['seconds'])}{'' if found['finished'] else ', then stopped'}"
    print(
        f"\nModel Analyzer {found['version']}: {len(rows)} measurements, once each, in {took}; the fastest:"
    )
    for row in sorted(rows, key=lambda row: -float(row["Throughput (infer/sec)"]))[:MODEL_ANALYZER_ROWS]:
        print("  " + ", ".join(f"{name} {value}" for name, value in row.items() if name in TOLD_COLUMNS))


def note(verdict: PolicyVerdict, options: Options) -> str:
    """For config.pbtxt: where its policy comes from."""
    today = date.today().isoformat()
    goal = f"p99 up to {options.objective.slo_p99_ms:g} ms" if options.objective.slo_p99_ms else "p99"
    if options.objective.rate:
        goal += f" at {options.objective.rate:g} requests/s"
    return f"`python -m perf tune`, {today}, {goal}: {verdict.median:.2f} x the {options.objective.unit()}"


def print_outcome(outcome: Outcome, served: ServedModel) -> None:
    """For people: medians of the finals, inferences/s and ms, verdicts, and what was not tried."""
    names = dict(zip((outcome.current, *outcome.finalists), ("current", "A", "B", "C"), strict=False))
    rounds = outcome.rounds if outcome.undecided else rounds_that_count(outcome)
    table = Table(title=f"{served.model}, medians of {len(rounds)} rounds")
    for column in ("policy", "load", "infer/s", "p99 ms"):
        table.add_column(column, justify="left" if column in ("policy", "load") else "right")
    for policy, name in names.items() if rounds else ():
        for load in rounds[0][policy]:
            levels = [measured[policy][load] for measured in rounds]
            medians = [statistics.median(level[key] for level in levels) for key in ("throughput", "p99_ms")]
            table.add_row(name, str(load), *(f"{median:.1f}" for median in medians))
    console().print(table)
    for policy, name in names.items():
        print(f"{name}: {policy}")
        if verdict := outcome.verdicts.get(policy):
            print(f"   {'' if verdict.better else 'not '}better: {verdict.reason}")
    if outcome.disturbed:
        taken = f"{len(outcome.disturbed)} of {len(outcome.rounds)} rounds were disturbed by other programs"
        print(f"{taken}; {'the others are too few to decide' if outcome.undecided else 'they do not count'}")
    for trial in outcome.trials:
        if trial.error:
            print(f"not tried: {trial.policy}: {trial.error}")
    if outcome.skipped:
        print(f"{len(outcome.skipped)} policies were not tried for lack of time; --budget-minutes gives more")
    if not outcome.winner:
        print(f"the current policy stays: {outcome.current}")


def what_next(arguments: argparse.Namespace, winner: Policy, served: ServedModel, path: Path | None) -> str:
    """What became of config.pbtxt; path: None with --url, where the text to put into it is told."""
    if path is None:
        text = policy_text(winner, served.config)
        return f"better: {winner}\nnothing was written; to have it, put this into config.pbtxt:\n{text}"
    if arguments.dry_run:
        return f"{path} was not written (--dry-run)"
    return f"{path} was written; a server takes it when it starts, or when it loads the model again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("model", help="its name")
    parser.add_argument("--slo-p99-ms", type=positive, metavar="MS", help="the p99 latency allowed")
    parser.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default=OBJECTIVES[0],
        help="the highest throughput within --slo-p99-ms, or the lowest p99 at --rate (default: %(default)s)",
    )
    parser.add_argument("--rate", type=positive, help="requests a second, arriving as strangers do (Poisson)")
    parser.add_argument(
        "--budget-minutes", type=positive, default=4, metavar="N", help="for all of it (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"of the finals, at least {MIN_ROUNDS} (default: what fits)"
    )
    parser.add_argument(
        "--min-gain-percent",
        type=positive,
        default=MIN_GAIN_PERCENT,
        metavar="N",
        help="a smaller gain is not worth a change (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        default=0.5,
        help="of each of three windows of a short measurement (default: %(default)s)",
    )
    parser.add_argument("--max-concurrency", type=int, default=64, metavar="N", help="default: %(default)s")
    parser.add_argument("--cores", type=int, metavar="N", help="that the server may use (default: ours)")
    parser.add_argument("--url", metavar="HOST:PORT", help="HTTP endpoint of a server that runs")
    parser.add_argument("--grpc-url", metavar="HOST:PORT", help="default: port 8001 of --url's host")
    add_repository_option(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would be written; write nothing")
    parser.add_argument(
        "--with-model-analyzer",
        action="store_true",
        help="run NVIDIA's Model Analyzer on the model, too, and keep what it finds beside ours",
    )
    parser.add_argument(
        "--model-analyzer-minutes", type=positive, default=10, metavar="N", help="default: %(default)s"
    )
    add_result_options(parser)
