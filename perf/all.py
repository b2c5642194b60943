"""Everything in short, and the report: about a quarter of an hour on two cores.

    python -m perf all
    python -m perf all --only run-cnn waterfall

Each step is a command of its own, which it prints, so any can be repeated, longer. A step that fails is told,
and the others go on. Raw results and the report lie in --output; nothing else may run meanwhile.
"""

import argparse
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from perf.harness.commands import clock_time, say
from perf.harness.errors import PerfError
from perf.harness.raw import OUT, check_output
from perf.report import report

__all__ = ["STEPS", "TimedCommand"]

TIME_LIMIT = 3  # times what a step takes, and a minute: then it is stuck


@dataclass(frozen=True)
class TimedCommand:
    """A command of `python -m perf`, and how long it takes on two cores. Its raw result is NAME.json."""

    name: str
    seconds: int
    arguments: tuple[str, ...]


def run_step(profile: str, seconds: int, *more: str) -> TimedCommand:
    """A load by the profile `quick-PROFILE` of profiles.toml; seconds: what it takes on two cores."""
    return TimedCommand(f"run-{profile}", seconds, ("run", f"--profile=quick-{profile}", *more))


THROUGHPUT = ("throughput", "--rounds=3", "--seconds=2")
STEPS = (
    run_step("cnn", 105),
    run_step("jpeg", 75),
    run_step("jpeg-rate", 65),
    run_step("lines", 35),
    run_step("stream", 35),
    TimedCommand("batching", 50, ("batching", "--rounds=3", "--seconds=1")),
    TimedCommand("waterfall", 90, ("waterfall", "--rounds=2", "--seconds=1")),
    TimedCommand("cost", 110, ("cost", "--seconds=0.5")),
    TimedCommand("throughput-grpc", 70, THROUGHPUT),
    TimedCommand("throughput-grpc-shm", 70, (*THROUGHPUT, "--shared-memory")),
    TimedCommand("precision", 60, ("precision", "--rounds=3", "--seconds=1")),
    TimedCommand("compare", 150, ("compare", "--quick", "--seconds=2")),
    TimedCommand("capacity", 150, ("capacity", "--measure", "--check", "--rounds=1", "--slo-p99-ms=150")),
)


def run(arguments: argparse.Namespace) -> int:
    """Run the steps, and draw what they leave; 1 if one failed or its result was skipped, else 0.

    Raises `PerfError` for a step that is not there, or if no step left a result.
    """
    steps = [step for step in STEPS if not arguments.only or step.name in arguments.only]
    if unknown := set(arguments.only or ()) - {step.name for step in steps}:
        raise PerfError(
            f"no step is called {', '.join(unknown)}; there are {', '.join(s.name for s in STEPS)}"
        )
    folder, failed, start = arguments.output, [], time.monotonic()
    check_output(folder / f"{STEPS[0].name}.json")
    for number, step in enumerate(steps, 1):
        left = sum(one.seconds for one in steps[number - 1 :])
        output = folder / f"{step.name}.json"
        output.unlink(missing_ok=True)  # what stood there is of another day
        command = [sys.executable, "-m", "perf", *step.arguments, f"--output={output}"]
        say(f"\nstep {number} of {len(steps)}, about {clock_time(left)} left: {shlex.join(command[1:])}")
        limit_s = 60 + TIME_LIMIT * step.seconds
        try:
            told = str(subprocess.run(command, check=False, timeout=limit_s).returncode)
        except subprocess.TimeoutExpired:
            told = f"no end after {limit_s} s"
        if told != "0":
            failed.append(f"{step.name} ({told})")
    taken = sorted(path for step in steps if (path := folder / f"{step.name}.json").is_file())
    if not taken:
        raise PerfError("no step left a result; the errors above say why")
    page, _, skipped = report(taken, folder / "report")
    say(f"\n{clock_time(time.monotonic() - start)}; the report: {page}")
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed or skipped else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    names = ", ".join(step.name for step in STEPS)
    parser.add_argument("--only", nargs="+", metavar="STEP", help=f"of {names}")
    parser.add_argument(
        "--output", type=Path, default=OUT / "all", metavar="FOLDER", help="default: %(default)s"
    )
