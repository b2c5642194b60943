"""How many replicas a rate takes within a p99, by simulation from what was measured.

    python -m perf capacity --rate 5000 --slo-p99-ms 60
    python -m perf capacity efficientnet_lite0 --rate 800 --slo-p99-ms 100 --scale 1,4
    python -m perf capacity --measure                 calibrate on this machine now (about 2 minutes)
    python -m perf capacity --measure --check         and measure three loads that it predicts (5 minutes)

Without --measure the model's committed calibration in perf/results answers, or the one of --from.
docs/why/capacity.md says what is measured, simulated and assumed, and how far off the predictions were.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from perf.capacity.calibration import batchings, calibrate
from perf.capacity.planning import RATES, Assumptions, Capacity, Replica, limits, plan, replica_capacity
from perf.capacity.simulation import DISTRIBUTIONS, Observed
from perf.harness.commands import add_repository_option, console, load_average, say
from perf.harness.errors import PerfError
from perf.harness.raw import RESULTS, RawResult, load, model_facts, output_path, reading, save

__all__ = ["planned"]

CLAIMED = 15  # percent: how close a prediction is meant to be


def run(arguments: argparse.Namespace) -> int:
    """Plan, by a calibration that is taken now (--measure) or lies in a file; returns 0.

    Raises `PerfError` for a rate that is not above 0, --check without --measure, or no calibration.
    """
    if arguments.rate <= 0:
        raise PerfError(f"--rate is above 0 requests a second, not {arguments.rate:g}")
    if arguments.check and not arguments.measure:
        raise PerfError("a check is part of a measurement: --measure --check")
    stations = batchings(arguments.model, arguments.model_repository)
    if arguments.measure:
        output = output_path(arguments.output, f"capacity-{arguments.model}")
        load_average()  # warns
        raw = calibrate(
            arguments.model, arguments.model_repository, rounds=arguments.rounds, check=arguments.check
        )
        save(output, raw)
        say(f"raw results: {output}")
    else:
        raw, output = committed(arguments)
    with reading(output):
        answer = planned(raw, stations, arguments)
        if arguments.json:
            print(json.dumps(answer, indent=1))
        else:
            print_checks(raw)
            print_plan(answer)
    return 0


def committed(arguments: argparse.Namespace) -> tuple[RawResult, Path]:
    """The calibration of --from, or the model's in perf/results, and its file. Raises `PerfError`."""
    path = arguments.source or RESULTS / f"capacity-{arguments.model}.json"
    if not path.is_file():
        raise PerfError(
            f"no calibration of {arguments.model}: {path} is not there; "
            f"`python -m perf capacity {arguments.model} --measure` takes one, --from FILE reads another"
        )
    raw = load(path, "capacity")
    with reading(path):
        if raw["model"]["name"] != arguments.model:
            raise PerfError(f"{path} is a calibration of {raw['model']['name']}, not of {arguments.model}")
        for facts in (raw["model"], *raw["composing"]):
            now = model_facts(arguments.model_repository, facts["name"])
            if (now["config_pbtxt"], now["sha256"]) != (facts["config_pbtxt"], facts["sha256"]):
                say(f"warning: {facts['name']} has changed since {path} was taken; --measure takes a new one")
    return raw, path


def planned(raw: RawResult, stations: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole answer: for each size of a replica its capacity, and the plans for the rates."""
    observed = Observed.of_json(raw["observed"])
    measured = Replica(int(raw.machine["cores"]), stations)
    assumed = Assumptions(arguments.node_gbit, arguments.balancer_gbit, arguments.balancer_rate)
    rates = sorted({*RATES, arguments.rate})
    sizes = []
    for factor in arguments.scale:
        replica = measured.times(factor)
        capacity = replica_capacity(observed, replica, arguments.slo_p99_ms, arguments.distribution)
        forms = {
            form: [
                plan(rate, replica, capacity, sent + raw["bytes"]["answer"], assumed).as_json()
                for rate in rates
            ]
            for form, sent in raw["bytes"]["request"].items()
        }
        breaks = {
            form: limits(capacity, sent + raw["bytes"]["answer"], assumed)
            for form, sent in raw["bytes"]["request"].items()
        }
        sizes.append({"cores": replica.cores, "capacity": vars(capacity), "plans": forms, "limits": breaks})
    return {
        "model": raw["model"]["name"],
        "machine": raw.machine,
        "calibrated": raw.taken,
        "rate": arguments.rate,
        "slo_p99_ms": arguments.slo_p99_ms,
        "distribution": arguments.distribution,
        "assumed": vars(assumed),
        "bytes": raw["bytes"],
        "comparison": raw["comparison"],
        "replicas": sizes,
    }


def print_plan(answer: dict[str, Any]) -> None:
    """For each size of a replica what the rate takes, and a table of rates, Gbit/s by form of request."""
    out = console()
    for size in answer["replicas"]:
        capacity = Capacity(**size["capacity"])
        forms = list(size["plans"])
        asked = next(row for row in size["plans"][forms[0]] if row["rate"] == answer["rate"])
        out.print(
            f"\n[bold]{answer['model']}, p99 within {answer['slo_p99_ms']:g} ms, {answer['distribution']} "
            f"arrivals, replicas of {size['cores']} cores[/bold]\n"
            f"{answer['rate']:,.0f}/s takes {asked['replicas']:,} replicas, "
            f"{asked['replicas_n_plus_1']:,} with one to spare (N+1).\n"
            f"One replica takes {capacity.rate:.1f}/s, p99 {capacity.p99_ms:.1f} ms; above "
            f"{capacity.utilisation:.0%} of its peak of {capacity.peak:.1f}/s the p99 is over. Busiest: "
            + ", ".join(f"{name} {share:.0%}" for name, share in capacity.busy.items())
        )
        table = Table(box=SIMPLE_HEAD)
        for heading in ("rate /s", "replicas", "N+1", "cores"):
            table.add_column(heading, justify="right")
        for number, _ in enumerate(forms, 1):
            table.add_column(f"Gbit/s ({number})", justify="right")
            table.add_column("balancers", justify="right")
        for rows in zip(*size["plans"].values(), strict=True):
            first = rows[0]
            table.add_row(
                f"{first['rate']:,.0f}",
                *(f"{first[key]:,}" for key in ("replicas", "replicas_n_plus_1", "cores")),
                *(text for row in rows for text in (f"{row['gbit']:,.1f}", f"{row['balancers']:,}")),
            )
        out.print(table)
        for number, (form, most) in enumerate(size["limits"].items(), 1):
            told = ", ".join(f"{name} at {rate:,.0f}/s" for name, rate in most.items())
            out.print(f"({number}) {form}, {answer['bytes']['request'][form]:,} bytes each. Breaks: {told}")


def print_checks(raw: RawResult) -> None:
    """Predicted against measured, with a warning where that is more than `CLAIMED` percent off."""
    if not raw["comparison"]:
        return
    table = Table("load", "", "measured", "rounds from, to", "predicted", "error %")
    for row in raw["comparison"]:
        for figure, label in (("throughput", "answers/s"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms")):
            one = row[figure]
            table.add_row(
                described(row) if figure == "throughput" else "",
                label,
                f"{one['measured']:.1f}",
                ", ".join(f"{value:.1f}" for value in one["measured_spread"]),
                f"{one['predicted']:.1f}",
                f"{one['error_percent']:+.1f}",
            )
    console().print("Predicted, and measured in loads that were not calibrated on:", table)
    if "note" in raw.content:
        say(raw["note"])
    errors = [abs(row[key]["error_percent"]) for row in raw["comparison"] for key in ("throughput", "p99_ms")]
    if max(errors) > CLAIMED:
        say(f"a prediction is {max(errors):.0f} % off, more than {CLAIMED} %: plan with that much to spare")


def described(row: dict[str, Any]) -> str:
    """A checked load: "12 under way", or its share of the peak and its rate, "40%, 96.3/s"."""
    if row["concurrency"]:
        return f"{row['concurrency']} under way"
    return f"{row['share']:.0%}, {row['rate']:.1f}/s"


def factors(text: str) -> list[int]:
    """For argparse: whole numbers from 1, separated by commas. Raises `ArgumentTypeError`."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers from 1, such as 1,4")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("model", nargs="?", default="efficientnet_lite0", help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=5000, help="requests a second (default: %(default)s)")
    parser.add_argument("--slo-p99-ms", type=float, default=60, metavar="MS", help="default: %(default)s")
    parser.add_argument("--distribution", choices=DISTRIBUTIONS, default="poisson", help="of arrivals")
    parser.add_argument(
        "--scale",
        type=factors,
        default=[1],
        metavar="N,N",
        help="plan with replicas of so many times the cores and instances, too (default: 1, as measured)",
    )
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="another calibration")
    parser.add_argument("--measure", action="store_true", help="calibrate on this machine now")
    parser.add_argument("--check", action="store_true", help="with --measure: measure what is predicted")
    parser.add_argument("--rounds", type=int, default=2, help="of --measure (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="of --measure (default: in perf/out)")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    add_repository_option(parser)
    assumed = parser.add_argument_group("what is assumed (docs/why/capacity.md)")
    default = Assumptions()
    assumed.add_argument("--node-gbit", type=float, default=default.node_gbit, metavar="GBIT/S")
    assumed.add_argument("--balancer-gbit", type=float, default=default.balancer_gbit, metavar="GBIT/S")
    assumed.add_argument("--balancer-rate", type=float, default=default.balancer_rate, metavar="REQUESTS/S")
